import numpy as np
import pytest

from vla.errors import UserError
from vla.evaluation.episode import Play, play_episode
from vla.evaluation.instructions import current
from vla.evaluation.recorder import Recorder
from vla.robots.gym_sim import make_robot
from vla.runtime.loop import Timing


def easy(robot) -> str:
    """An instruction of this scene that takes the expert about two seconds."""
    return next(one.text for one in robot.instructions() if one.family == "lift")


@pytest.fixture
def lift(robot):
    robot.reset(11)
    return easy(robot)


def test_an_episode_ends_with_success(robot, expert, lift):
    result = play_episode(expert, robot, Play(words_every=1.0), seed=11, instruction=lift)
    assert result.success and result.family == "lift" and result.instruction == lift
    assert 10 < result.steps < robot.max_steps
    assert len(result.s1_ms) == result.steps
    assert result.words is not None and result.words.startswith("the ")


def test_the_same_seed_gives_the_same_episode(robot, expert, lift):
    play = Play(timing=Timing(s2_delay=0.15, s1_delay=1))
    first, second = (play_episode(expert, robot, play, seed=11, instruction=lift) for _ in range(2))
    assert (first.success, first.steps, first.s2_age_s) == (second.success, second.steps, second.s2_age_s)


def test_an_instruction_the_scene_does_not_know_is_refused(robot, expert):
    with pytest.raises(UserError, match="cannot be judged in this scene"):
        play_episode(expert, robot, Play(), seed=11, instruction="bring me a beer")


def test_a_swap_says_what_it_replaced(robot, expert):
    result = play_episode(expert, robot, Play(choice="swap"), seed=11)
    assert result.original is not None and result.original != result.instruction


def test_a_changed_mind_counts_among_the_words_that_were_said_last(expert_anywhere):
    with make_robot("tabletop-suite", task="changed") as robot:
        robot.reset(100_003)
        before = current(robot)
        result = play_episode(expert_anywhere, robot, Play(), seed=100_003)
        assert result.success and (result.original, result.instruction) == (before.text, robot.instruction)
        assert current(robot) is None, "what is done cannot be asked any more"
    assert (before.split, result.split) == ("train", "pair")


def test_words_that_became_possible_on_the_way_count_where_they_belong(expert_anywhere):
    seed = 100_111  # there is room for the push only once it is asked for
    with make_robot("tabletop-suite", task="changed", split="phrasing") as robot:
        robot.reset(seed)
        possible = {one.text for one in robot.instructions()}
        result = play_episode(expert_anywhere, robot, Play(), seed=seed)
    assert result.success and result.instruction not in possible
    assert result.split == "phrasing"


def test_recording_changes_nothing_and_leaves_video_and_sheet(robot, expert, lift, tmp_path):
    plain = play_episode(expert, robot, Play(), seed=11, instruction=lift)
    recorder = Recorder(robot)
    filmed = play_episode(expert, robot, Play(words_every=1.0), seed=11, instruction=lift, recorder=recorder)
    assert (plain.success, plain.steps) == (filmed.success, filmed.steps)
    recorder._moments = recorder._moments[:3]  # films slowly on a busy machine; three frames show the same
    recorder.video(tmp_path / "a.mp4")
    recorder.sheet(tmp_path / "a.jpg")
    assert (tmp_path / "a.mp4").stat().st_size > 2000
    assert np.frombuffer((tmp_path / "a.jpg").read_bytes(), np.uint8)[:2].tobytes() == b"\xff\xd8"
