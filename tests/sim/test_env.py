"""The tabletop environment: conventions, physics and determinism."""

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import gym_tabletop
from gym_tabletop import arm, instructions
from gym_tabletop.kinematics import ArmKinematics, integrate_delta
from gym_tabletop.tasks import SUITE, TASKS

ID = "gym_tabletop/Tabletop-v0"


@pytest.fixture
def make():
    made = []

    def build(**kwargs):
        made.append(gymnasium.make(ID, **kwargs))
        return made[-1]

    yield build
    for env in made:
        env.close()


def play(env, seed, steps=12):
    """Observations and rewards of a fixed random walk."""
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=seed)
    seen = [observation]
    for _ in range(steps):
        observation, *_ = env.step(rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32))
        seen.append(observation)
    return seen


def same(a, b):
    return all(
        np.array_equal(x["agent_pos"], y["agent_pos"])
        and all(np.array_equal(x["pixels"][camera], y["pixels"][camera]) for camera in ("front", "wrist"))
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.filterwarnings("error")
def test_gymnasium_finds_nothing_to_complain_about(make):
    check_env(make().unwrapped, skip_render_check=True)


def test_observations_follow_lerobots_conventions(make):
    env = make()
    observation, info = env.reset(seed=0)
    assert observation["pixels"]["front"].shape == (96, 96, 3)
    assert observation["agent_pos"].shape == (17,)
    assert info["is_success"] is False
    inner = env.unwrapped
    assert inner.task in TASKS and inner.task_description and inner._max_episode_steps == 240


def test_the_same_seed_gives_the_same_episode_whatever_ran_before_and_beside_it(make):
    fresh, used, beside = make(), make(), make(randomize=True)
    first = play(fresh, 7)
    play(used, 3)
    used.reset(seed=5, options={"still": True})
    play(beside, 7)
    assert same(first, play(used, 7))
    assert not same(first, play(used, 8))


def test_randomised_looks_leave_no_trace_in_later_episodes_of_the_same_seed(make):
    env = make(randomize=True)
    first = play(env, 2, steps=2)
    play(env, 11, steps=2)
    assert same(first, play(env, 2, steps=2))


@pytest.mark.parametrize("task", TASKS)
def test_the_scene_always_holds_a_wrong_object(make, task):
    env = make(task=task, render=False).unwrapped
    for seed in range(20):
        env.reset(seed=seed)
        assert len({thing.name for thing in env.scene().objects}) >= 3
        assert env.task == task


def test_nothing_moves_without_being_touched(make):
    env = make(render=False)
    env.reset(seed=4)
    before = {t.name: np.array(t.position) for t in env.unwrapped.scene().objects}
    rest = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
    for _ in range(60):
        env.step(rest)
    for thing in env.unwrapped.scene().objects:
        assert np.linalg.norm(np.array(thing.position) - before[thing.name]) < 0.004


def test_a_released_object_falls_so_no_hidden_weld_holds_it(make):
    from gym_tabletop.experts import make_expert

    env = make(task="lift", render=False)
    env.reset(seed=0)
    assert env.unwrapped.model.neq == 0 and env.unwrapped.model.nmocap == 0
    expert = make_expert(env.unwrapped, np.random.default_rng(0))
    done = False
    while not done:
        _, _, done, cut, _ = env.step(expert.act())
        assert not cut
    name = env.unwrapped.assignment.request.target
    height = next(t for t in env.unwrapped.scene().objects if t.name == name).position[2]
    assert height > 0.08
    for _ in range(25):
        env.step(np.array([0, 0, 0, 0, 0, 0, 1], np.float32))
    assert next(t for t in env.unwrapped.scene().objects if t.name == name).position[2] < 0.05


def test_the_arm_has_the_pandas_kinematics():
    position, rotation = ArmKinematics().forward(np.array([0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4]))
    np.testing.assert_allclose(position, [0.30689, 0, 0.48688], atol=1e-4)  # Franka's published ready pose
    np.testing.assert_allclose(rotation, np.diag([1, -1, -1]), atol=1e-9)


def test_inverse_kinematics_reaches_the_workspace_within_the_joint_limits():
    kinematics, joints, rng = ArmKinematics(), arm.HOME, np.random.default_rng(0)
    for _ in range(20):
        goal = rng.uniform([0.36, -0.3, 0.02], [0.72, 0.3, 0.3])
        for _ in range(10):
            joints = kinematics.inverse(joints, goal, np.diag([1.0, -1, -1]))
        np.testing.assert_allclose(kinematics.forward(joints)[0], goal, atol=1e-3)
        assert np.all(joints >= arm.POSITION_LOW) and np.all(joints <= arm.POSITION_HIGH)


def test_deltas_integrate_onto_the_last_command_and_stay_in_the_box():
    position, rotation = np.array([0.5, 0.0, 0.2]), np.diag([1.0, -1, -1])
    turn = np.array([0.01, 0, -0.02, 0, 0, np.pi / 200])
    for _ in range(100):
        position, rotation = integrate_delta(position, rotation, turn)
    np.testing.assert_allclose(position, [0.8, 0, 0.012])
    np.testing.assert_allclose(rotation, [[0, 1, 0], [1, 0, 0], [0, 0, -1]], atol=1e-9)


def test_the_arm_follows_joint_positions_within_its_velocity_limits(make):
    env = make(action_mode="joint_position", render=False)
    observation, _ = env.reset(seed=0)
    goal = arm.HOME + 0.3
    fastest = 0.0
    for _ in range(40):
        observation, *_ = env.step(np.append(goal, 1).astype(np.float32))
        fastest = max(fastest, float(np.abs(env.unwrapped.data.qvel[:7] / arm.VELOCITY_LIMIT).max()))
    np.testing.assert_allclose(observation["agent_pos"][:7], goal, atol=0.01)
    assert fastest <= 1.15


def test_labels_point_at_what_the_image_shows(make):
    env = make().unwrapped
    hits = total = 0
    for seed in range(10):
        env.reset(seed=seed)
        cells = env.cells(4)
        for thing in env.scene().objects:
            u, v = thing.pixel
            total += 1
            hits += cells[int(v * 24), int(u * 24)] == gym_tabletop.CELL_CLASSES.index(thing.name) + 1
    assert hits / total > 0.9


def test_another_instruction_of_the_same_scene_changes_the_task(make):
    env = make(render=False).unwrapped
    env.reset(seed=0)
    other = next(i for i in env.instructions() if i.target != env.assignment.request.target)
    env.set_instruction(other.text)
    assert env.task_description == other.text and env.task == other.family
    with pytest.raises(ValueError, match="cannot be asked"):
        env.set_instruction("sing")


def test_training_never_shows_a_held_out_phrasing_or_pair(make):
    env = make(split="train", render=False).unwrapped
    for seed in range(40):
        env.reset(seed=seed)
        task, target = env.assignment.task, env.assignment.request.target
        assert env.instruction().split == "train" and target != task.held_out_pair


@pytest.mark.parametrize("split", ["phrasing", "pair"])
def test_held_out_splits_show_only_what_was_held_out(make, split):
    env = make(split=split, render=False).unwrapped
    for seed in range(15):
        env.reset(seed=seed)
        assert env.instruction().split == split


def test_a_still_scene_that_was_played_goes_on_until_its_task_is_done(make):
    env = make(render=False).unwrapped
    further = []
    for seed in range(4, 10):
        env.reset(seed=seed, options={"still": True})
        rng, begun, moments = np.random.default_rng(seed), env.data.time, 0
        while env.next_still(rng):
            moments += 1
        assert env._success or not moments
        assert moments == 0 or env.data.time > begun
        further.append(moments)
    assert 0 in further and max(further) > 1
    env.reset(seed=0)
    assert not env.next_still(rng)


@pytest.mark.parametrize("task", [*TASKS.values(), SUITE["stages"]], ids=[*TASKS, "stages"])
def test_every_family_has_several_phrasings_and_two_held_out(task):
    assert len(task.phrasings) >= 5 and len(task.held_out_phrasings) == 2
    assert not set(task.phrasings) & set(task.held_out_phrasings)
    known = {word for other in SUITE.values() for phrase in other.phrasings for word in phrase.split()}
    assert all(set(phrase.split()) <= known for phrase in task.held_out_phrasings)


@pytest.mark.parametrize("wrong", [{"task": "juggle"}, {"split": "x"}, {"action_mode": "x"}, {"quality": "x"}])
def test_unknown_settings_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        gymnasium.make(ID, **wrong)


def test_an_action_that_is_not_finite_is_refused(make):
    env = make(render=False)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="not finite"):
        env.step(np.full(7, np.nan, np.float32))


def test_the_timestep_is_at_most_four_milliseconds(make):
    model: mujoco.MjModel = make(render=False).unwrapped.model
    assert model.opt.timestep <= 0.004
    assert instructions.SPLITS[0] == "all"


def test_driving_by_servo_is_stepping_in_ten_parts(make):
    stepped, served = (make(action_mode="joint_position", render=False) for _ in range(2))
    for env in (stepped, served):
        env.reset(seed=5)
    joints = stepped.unwrapped.data.qpos[:7].copy()
    for k in range(30):
        goal = joints + 0.02 * np.sin(np.arange(7) + 0.2 * k)
        opening = float(k < 10)
        before = served.unwrapped.data.ctrl[:7].copy()
        stepped.step(np.append(goal, opening))
        goal = np.append(goal, 0).astype(np.float32)[:7].astype(np.float64)
        for part in range(1, 11):
            served.unwrapped.servo(before + (goal - before) * part / 10, opening)
    np.testing.assert_allclose(served.unwrapped.data.qpos, stepped.unwrapped.data.qpos, atol=1e-5)
    assert np.abs(stepped.unwrapped.data.qpos[:7] - joints).max() > 0.01
