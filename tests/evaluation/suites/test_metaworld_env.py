"""MetaWorld as an environment: its own states, success and horizon; words and pictures beside them."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import mujoco
import numpy as np
import pytest

pytest.importorskip("metaworld")

from vla.errors import UserError
from vla.evaluation.suites.metaworld.env import HORIZON, KEPT, MetaWorldEnv, from_metaworld, to_metaworld
from vla.evaluation.suites.metaworld.experts import make_expert
from vla.evaluation.suites.metaworld.table import task_table, thing_names
from vla.robots.benchmarks import METAWORLD_GROUPS, METAWORLD_MT10, METAWORLD_MT50
from vla.robots.gym_sim import find_environment, make_robot
from vla.robots.sim_frames import has_frames
from vla.runtime.pilot import Pilot
from vla.runtime.telemetry import Trace


@pytest.fixture(scope="module")
def mt10():
    with make_robot("metaworld-mt10", lazy=True) as robot:
        yield robot


def original(task: str, seed: int):
    """MetaWorld's own environment in the state it draws under `seed`, and what its policy would then see."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    env = ALL_V3_ENVIRONMENTS[task]()
    env._partially_observable, env._set_task_called = False, True
    del env.sawyer_observation_space  # as its set_task does: the cached one has no room for a goal
    env._freeze_rand_vec, env.seeded_rand_vec = False, True
    env.seed(seed)
    return env, env.reset(seed=seed)[0]


def play(env: MetaWorldEnv, seed: int, steps: int, noise: bool = False) -> np.ndarray:
    env.reset(seed=seed)
    expert = make_expert(env, np.random.default_rng(seed))
    seen = [env.scene.observation]
    for _ in range(steps):
        action = expert.act()
        done = env.step(expert.perturb(action) if noise else action)[2]
        seen.append(env.scene.observation)
        if done:
            break
    return np.stack(seen)


def test_the_tasks_are_those_of_metaworld():
    from metaworld.env_dict import MT10_V3, MT50_V3

    assert set(METAWORLD_MT50) == set(MT50_V3) == set(task_table())
    assert tuple(MT10_V3) == METAWORLD_MT10


def test_the_groups_are_those_of_lerobots_evaluation():
    found = importlib.util.find_spec("lerobot")
    if found is None or not found.submodule_search_locations:
        pytest.skip("LeRobot is not installed")
    published = json.loads((Path(found.submodule_search_locations[0]) / "envs/metaworld_config.json").read_text())
    groups = {name: sorted(tasks) for name, tasks in published["DIFFICULTY_TO_TASKS"].items()}
    assert {name: sorted(tasks) for name, tasks in METAWORLD_GROUPS.items()} == groups
    assert {name: task.says for name, task in task_table().items()} == published["TASK_DESCRIPTIONS"]


def test_held_out_words_are_in_no_demonstration():
    told = {text.lower() for task in task_table().values() for text in task.sentences("train")}
    for task in task_table().values():
        assert len(task.train) >= 3 and len(task.held_out) >= 2
        assert not {text.lower() for text in task.held_out} & told


def test_words_of_training_mean_one_task_but_where_the_benchmark_says_the_same_of_two():
    meaning: dict[str, set[str]] = {}
    for name, task in task_table().items():
        for text in task.sentences("train"):
            meaning.setdefault(text, set()).add(name)
    shared = [tasks for tasks in meaning.values() if len(tasks) > 1]
    assert shared == [{"push-back-v3", "push-v3"}]


@pytest.mark.parametrize("task", ["push-v3", "drawer-open-v3", "hammer-v3"])
def test_a_seed_gives_the_state_and_the_steps_that_metaworld_itself_makes_of_it(task):
    env, (theirs, observed) = MetaWorldEnv(task=task), original(task, 7)
    env.reset(seed=7)
    assert np.array_equal(env.scene.observation, observed)
    rng = np.random.default_rng(0)
    for _ in range(30):
        action = rng.uniform(-1, 1, 4).astype(np.float32).astype(np.float64)
        observation, *_ = env.step(from_metaworld(action))
        np.testing.assert_allclose(env.scene.observation, theirs.step(action)[0], atol=1e-5)
        np.testing.assert_allclose(observation["agent_pos"], env.scene.observation[:4], atol=1e-7)
    env.close()


@pytest.mark.parametrize("task", ["drawer-close-v3", "peg-insert-side-v3"])
def test_an_episode_does_not_depend_on_what_was_played_before(task):
    env = MetaWorldEnv(task=task)
    first = play(env, 3, 60)
    play(env, 4, 60, noise=True)
    assert np.array_equal(play(env, 3, 60), first)
    env.close()
    fresh = MetaWorldEnv(task=task)
    assert np.array_equal(play(fresh, 3, 60), first)
    fresh.close()


def test_seeds_take_the_tasks_in_turn_and_place_things_anew(mt10):
    places = {}
    for seed in (0, 1, 10, 11):
        mt10.reset(seed)
        places[seed] = mt10.environment.scene.goal_place().copy()
        assert mt10.family == METAWORLD_MT10[seed % 10]
    assert not np.allclose(places[0], places[10]) and not np.allclose(places[1], places[11])


def test_proprioception_is_the_hand_and_the_gripper_and_nothing_else(mt10):
    observation = mt10.reset(1)
    hand = mt10.environment.scene.env.get_endeff_pos()
    assert observation.state.shape == (4,)
    np.testing.assert_allclose(observation.state[:3], hand, atol=1e-3)
    assert 0.5 < observation.state[3] <= 1
    assert set(observation.images) == {"front", "wrist"}


def test_the_first_success_ends_the_episode_and_only_the_horizon_does_otherwise(mt10):
    mt10.reset(5)
    expert = make_expert(mt10.environment, np.random.default_rng(0))
    steps = 0
    while not mt10.finished:
        mt10.command(expert.act())
        steps += 1
    assert mt10.success and steps < HORIZON == mt10.max_steps
    mt10.reset(5)
    for _ in range(HORIZON):
        assert not mt10.finished
        mt10.command(np.array([0, 0, 0, 1], np.float32))
    assert mt10.finished and not mt10.success
    mt10.command(np.array([0, 0, 0, 1], np.float32))  # as `vla sim` does, whose time does not end with an episode
    assert mt10.finished and mt10.observe().stamp == pytest.approx((HORIZON + 1) / mt10.spec.rate_hz)


def test_pictures_that_are_drawn_on_demand_are_kept_for_a_policy_that_looks_back(mt10):
    mt10.reset(0)
    looking = SimpleNamespace(frames=2, config=SimpleNamespace(replan_steps=1))
    nothing = np.zeros(mt10.spec.action_size, np.float32)
    pilot = Pilot(looking, mt10.spec, nothing, Trace(), warn=1.0, stop=None)
    pilot.remember(mt10.observe())
    mt10.command(nothing)
    assert pilot.past[0].images["front"].any()


def test_models_that_change_with_the_task_have_no_frames_to_publish():
    with make_robot("tabletop", render=False) as one, make_robot("metaworld-mt10") as ten:
        assert has_frames(one.environment) and not has_frames(ten.environment)


def test_actions_are_metres_and_openings():
    wanted = np.array([1.0, -0.5, 0.0, 1.0])
    np.testing.assert_allclose(from_metaworld(wanted), [0.01, -0.005, 0, 0], atol=1e-7)
    np.testing.assert_allclose(to_metaworld(from_metaworld(wanted)), wanted, atol=1e-6)
    np.testing.assert_allclose(to_metaworld(from_metaworld(5 * wanted)), [1, -1, 0, 1], atol=1e-6)


def test_the_front_camera_is_where_published_evaluations_put_it_and_upright(mt10):
    mt10.reset(1)
    scene = mt10.environment.scene
    np.testing.assert_allclose(scene.data.camera("corner2").xpos, [0.75, 0.075, 0.7])
    place = scene.target_place()
    (u, v), (_, above) = scene.project(place), scene.project(np.add(place, (0, 0, 0.1)))
    assert 0 < u < 1 and 0 < v < 1 and above < v
    labelled = scene.geometry() == 1 + list(scene.task.things).index("puck")
    rows, columns = np.nonzero(labelled)
    np.testing.assert_allclose([columns.mean() / len(labelled), rows.mean() / len(labelled)], [u, v], atol=0.03)


def test_images_can_be_had_until_the_next_step_only(mt10):
    first = mt10.reset(2)
    front = first.images["front"]
    mt10.command(np.zeros(4, np.float32))
    assert first.images["front"] is front
    with pytest.raises(RuntimeError, match="moved on"):
        first.images["wrist"]


def test_looking_changes_nothing():
    env = MetaWorldEnv(task="push-v3")
    blind = play(env, 5, 40)
    env.reset(seed=5)
    expert = make_expert(env, np.random.default_rng(5))
    for step in range(1, len(blind)):
        observation, *_ = env.step(expert.act())
        assert observation["pixels"]["front"].any() and env.annotation()
        assert np.array_equal(env.scene.observation, blind[step])
    env.close()


def test_held_out_words_are_asked_for_by_split():
    for split, kind in (("all", "train"), ("phrasing", "phrasing")):
        env = MetaWorldEnv(suite="mt10", task="push-v3", split=split)
        env.reset(seed=0)
        assert {one.split for one in env.instructions() if one.text == env.task_description} == {kind}
        env.close()


def test_old_scenes_are_closed_when_many_tasks_take_turns():
    env = MetaWorldEnv(suite="mt50", task="easy", render=False)
    for seed in range(KEPT + 2):
        env.reset(seed=seed)
    assert len(env._scenes) == KEPT
    env.close()


def test_things_have_names_and_bodies_of_the_scene(mt10):
    for seed in range(10):
        mt10.reset(seed)
        assert mt10.environment.scene.geometry().any(), mt10.family
    assert len(thing_names()) > 30


def test_a_mujoco_that_is_too_new_is_one_line(monkeypatch):
    monkeypatch.setattr(mujoco, "__version__", "4.0.1")
    with pytest.raises(UserError, match=r"needs MuJoCo below 3\.17, this is 4\.0\.1: pip install"):
        make_robot("metaworld").reset(0)


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"package metaworld is missing: pip install 'vla\[bench\]'"):
        make_robot("metaworld")


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [("metaworld", "push-v2", "did you mean push-v3"), ("metaworld-mt10", "hammer-v3", "unknown task"),
     ("metaworld-mt10", "easy", "unknown task")],
)  # fmt: skip
def test_what_is_no_task_is_refused(name, task, message):
    with pytest.raises(UserError, match=message):
        find_environment(name, task)
