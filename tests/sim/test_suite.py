"""The furnished table: its families, and what happens on it without the robot's doing."""

from dataclasses import replace
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import gym_tabletop  # noqa: F401
from gym_tabletop.experts import make_expert
from gym_tabletop.scene_truth import Scene, Thing
from gym_tabletop.tasks import SUITE, TASKS
from gym_tabletop.tasks.relation import descriptions

REST = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)


@pytest.fixture
def make():
    made = []

    def build(**kwargs):
        options = {"suite": True, "render": False} | kwargs
        made.append(gymnasium.make("gym_tabletop/Tabletop-v0", **options).unwrapped)
        return made[-1]

    yield build
    for env in made:
        env.close()


def solve(env, seed):
    """Whether the expert succeeds; also what it was told, and the stage of each step."""
    env.reset(seed=seed)
    expert = make_expert(env, np.random.default_rng(seed))
    said, stages = [env.task_description], []
    for _ in range(env._max_episode_steps):
        stages.append(env.stage)
        _, _, done, _, info = env.step(expert.act())
        if env.task_description != said[-1]:
            said.append(env.task_description)
        if done:
            return True, said, stages
    return info["is_success"], said, stages


@pytest.mark.filterwarnings("error")
def test_gymnasium_finds_nothing_to_complain_about(make):
    check_env(make(render=True), skip_render_check=True)


def test_seeds_stay_the_scenes_that_results_were_published_for(make):
    env, asked = make(), []
    for seed in range(100_000, 100_004):
        env.reset(seed=seed)
        asked.append((env.task_description, env.layout.objects[0].pair))
    assert asked == [
        ("raise the green cube", "yellow cylinder"),
        ("pick up the red cylinder and put it in the blue tray", "green cylinder"),
        ("place the yellow cylinder on top of the yellow cube", "blue cylinder"),
        ("push the blue button down", "blue cube"),
    ]


@pytest.mark.parametrize("task", [name for name in SUITE if name not in TASKS])
def test_experts_succeed(make, task):
    env = make(task=task)
    assert np.mean([solve(env, seed)[0] for seed in range(2000, 2020)]) >= 0.95


@pytest.mark.parametrize("task", ["lift", "place", "stack"])
def test_experts_recover_when_things_are_moved_or_slip(make, task):
    env = make(task=task, events=True)
    assert np.mean([solve(env, seed)[0] for seed in range(2000, 2012)]) >= 0.9


def test_the_turning_table_carries_its_objects_and_nothing_else_moves(make):
    env = make(task="moving")
    env.reset(seed=1)
    before = {thing.name: np.array(thing.position) for thing in env.scene().things}
    for _ in range(20):
        env.step(REST)
    for thing in env.scene().things:
        moved = np.linalg.norm(np.array(thing.position) - before[thing.name])
        assert moved > 0.01 if thing.kind == "object" else moved < 0.002


def test_a_mind_is_changed_once_and_only_the_new_wish_counts(make):
    env = make(task="changed")
    for seed in range(5):
        success, said, _ = solve(env, seed)
        assert success and len(said) == 2
        assert env.task == "changed"


def test_of_two_things_the_second_counts_only_after_the_first(make):
    env = make(task="stages")
    success, said, stages = solve(env, 0)
    assert success and len(said) == 1
    assert set(stages) == {0, 1} and all(b >= a for a, b in pairwise(stages))
    assert len(env.assignment.stages) == 2


@pytest.mark.parametrize("split", ["train", "pair"])
def test_a_changed_mind_wants_something_else(make, split):
    env = make(task="changed", split=split)
    for seed in range(5):
        env.reset(seed=seed)
        first = env.assignment
        while env.assignment is first:
            env.step(REST)
        assert env.assignment.request.target != first.request.target and first.split == split


class Backwards:
    """The table as an expert sees it who does the second thing first."""

    def __init__(self, env):
        self.env, self.stage = env, 0

    def __getattr__(self, name):
        return getattr(self.env, name)

    @property
    def assignment(self):
        given = self.env.assignment
        return replace(given, request=replace(given.request, stages=given.request.stages[::-1]))


@pytest.mark.parametrize(("seed", "second"), [(2002, "place"), (2007, "press")])
def test_of_two_things_done_in_the_wrong_order_the_second_has_to_be_done_anew(make, seed, second):
    env = make(task="stages")
    env.reset(seed=seed)
    first, then = env.assignment.stages
    assert (first.skill.name, then.skill.name) == ("place", second)
    backwards = Backwards(env)
    expert = make_expert(backwards, np.random.default_rng(seed))
    while backwards.stage == 0:
        env.step(expert.act())
        backwards.stage = int(then.skill.done(then.request, env.scene(), env.physics()))
    while env.stage == 0:
        env.step(expert.act())
    assert not any(env.step(REST)[2] for _ in range(20))


def test_a_button_touched_before_its_turn_spoils_nothing(make):
    env = make(task="stages")
    env.reset(seed=2007)
    wanted = env.assignment.stages[1].request.target
    env._pressed.add(next(button.name for button in env.scene().buttons if button.name != wanted))
    expert = make_expert(env, np.random.default_rng(2007))
    assert any(env.step(expert.act())[2] for _ in range(env._max_episode_steps))


def test_labels_of_two_things_are_those_of_the_one_that_is_due(make):
    env = make(task="stages")
    env.reset(seed=0)
    first, then = (stage.request.target for stage in env.assignment.stages)
    assert env.instruction().target == first
    expert = make_expert(env, np.random.default_rng(0))
    while env.stage == 0:
        env.step(expert.act())
    assert env.instruction().target == then


def test_the_wrong_button_spoils_a_press(make):
    env = make(task="press")
    env.reset(seed=0)
    wanted = env.assignment.request.target
    other = next(b.name for b in env.scene().buttons if b.name != wanted)
    words = env.task_description
    env.set_instruction(next(i.text for i in env.instructions() if i.family == "press" and i.target == other))
    expert = make_expert(env, np.random.default_rng(0))
    while not env.step(expert.act())[2]:
        pass
    pressed = env.physics().pressed
    env.set_instruction(words)
    assert pressed == {other} and env.physics().pressed == frozenset()
    env._pressed.add(other)
    for _ in range(60):
        assert not env.step(expert.act())[2]


def test_events_move_the_target_without_the_robot_and_belong_to_the_seed(make):
    moved = []
    for _ in range(2):
        env = make(task="lift", events=True)
        ends = []
        for seed in range(12):
            env.reset(seed=seed)
            before = np.array(env.scene().find(env.assignment.request.target).position)
            for _ in range(60):
                env.step(REST)
            ends.append(np.linalg.norm(np.array(env.scene().find(env.assignment.request.target).position) - before))
        moved.append(ends)
    assert moved[0] == moved[1]
    assert 2 <= sum(distance > 0.02 for distance in moved[0]) <= 10


@pytest.mark.parametrize(("task", "happens"), [("lift", True), ("press", False), ("open", False), ("close", False)])
def test_an_event_is_told_of_where_something_can_be_moved_only(make, task, happens):
    env, told = make(task=task, events=True), []
    for seed in range(6):
        env.reset(seed=seed)
        told += [env.step(REST)[4]["disturbed"] for _ in range(52)]
    assert any(told) == happens


def test_a_family_without_colours_has_no_held_out_pair(make):
    with pytest.raises(ValueError, match="nothing to hold out"):
        make(task="open", split="pair")


def test_plain_tables_have_no_drawer_and_no_disc():
    env = gymnasium.make("gym_tabletop/Tabletop-v0", render=False).unwrapped
    env.reset(seed=0)
    assert env.scene().opened is None and not env.scene().turning
    assert {thing.kind for thing in env.scene().things} == {"object", "tray", "button"}
    env.close()


def thing(name, u, size=0.022, kind="object"):
    colour, shape = name.split()
    return Thing(name, colour, shape, kind, (0.5, u, 0.02), (u, 0.5), True, size)


def test_descriptions_single_out_one_object():
    red, blue = thing("red cube", 0.2, size=0.02), thing("blue cube", 0.8, size=0.026)
    ball, tray = thing("yellow ball", 0.5, size=0.014), thing("green tray", 0.65, 0.065, "tray")
    scene = Scene((red, blue, ball, tray))
    assert set(descriptions(red, scene)) == {"cube left of the yellow ball", "cube left of the green tray"}
    assert set(descriptions(blue, scene)) == {
        "largest object",
        "cube right of the yellow ball",
        "cube right of the green tray",
    }
    assert "smallest object" in set(descriptions(ball, scene))


def test_two_cubes_on_the_same_side_are_not_told_apart_by_it():
    red, blue, ball = thing("red cube", 0.1), thing("blue cube", 0.3), thing("yellow ball", 0.6)
    assert list(descriptions(red, Scene((red, blue, ball)))) == []
