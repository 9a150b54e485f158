"""What the recorder node does with episodes, without ROS."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_robot import FAKE

from vla.data.episode import Episode, Frame
from vla.data.recorder import EpisodeRecorder
from vla.data.rosbag2.frames import Step, stamp_columns
from vla.errors import UserError
from vla.spec import Box, Camera, Limits, RosStream
from vla_ros.episode_writer import EpisodeWriter, check_out, check_task

SPEC = replace(FAKE, cameras=(Camera("front", 32, 48),))


def step(episode: int, task: str = "wave", **odd: np.ndarray) -> Step:
    stamps = {name: np.zeros(1, np.int64) for name in stamp_columns(SPEC)}
    still = np.zeros(2, np.float32)
    return Step(episode, task, Frame({"front": np.zeros((32, 48, 3), np.uint8)}, still, still, extra=stamps | odd))


def test_episodes_are_written_as_they_come_and_one_without_words_is_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    writer = EpisodeWriter(tmp_path / "out", SPEC, said.append)
    writer.offer([step(0), step(0), step(1, ""), step(2)])
    writer.close()
    assert (writer.count, writer.frames, writer.failed) == (2, 3, "")
    assert said == ["an episode without words is left out: set the parameter task"]
    check_out(str(tmp_path / "out"), SPEC)
    limits = Limits(((-1.0, 1.0),), (1.0,), (1.0,), (1.0,), 0.1, Box(*((-1.0, 1.0),) * 3))
    check_out(str(tmp_path / "out"), replace(SPEC, limits=limits))
    with pytest.raises(UserError, match="out is of another robot: rate_hz is 7"):
        check_out(str(tmp_path / "out"), replace(SPEC, rate_hz=7.0))


def test_an_episode_that_cannot_be_written_is_told_and_what_was_written_before_is_whole(tmp_path: Path) -> None:
    from lerobot.datasets import LeRobotDataset

    said: list[str] = []
    writer = EpisodeWriter(tmp_path / "out", SPEC, said.append)
    writer.offer([step(0), step(1, other=np.zeros(1)), step(2)])
    writer.close()
    assert writer.count == 1 and "ValueError" in writer.failed and "nothing more is recorded: ValueError" in said[0]
    assert LeRobotDataset("vla/out", root=tmp_path / "out").num_frames == 1


def test_a_dataset_with_other_columns_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    recorder = EpisodeRecorder(tmp_path / "labelled", SPEC)
    recorder.write(Episode("wave", [replace(step(0).frame, extra={})]))
    recorder.close()
    with pytest.raises(UserError, match="its columns differ in disturbed, executed, goal_pixel"):
        check_out(str(tmp_path / "labelled"), SPEC)


def test_words_that_nobody_will_say_are_asked_for_before_anything_is_recorded() -> None:
    with pytest.raises(UserError, match="no topic of the spec says what is done: set the parameter task"):
        check_task("", SPEC)
    check_task("wave", SPEC)
    check_task("", replace(SPEC, ros=(*SPEC.ros, RosStream("instruction", "/instruction", "std_msgs/msg/String"))))
