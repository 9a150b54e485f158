"""What the recorder node does with episodes, without ROS."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_robot import FAKE

from vla.data.episode import Episode, Frame
from vla.data.recorder import EpisodeRecorder
from vla.data.rosbag2.frames import stamp_columns
from vla.errors import UserError
from vla.spec import Camera
from vla_ros.episode_writer import EpisodeWriter, check_out

SPEC = replace(FAKE, cameras=(Camera("front", 32, 48),))


def episode(task: str = "wave", **odd: np.ndarray) -> Episode:
    stamps = {name: np.zeros(1, np.int64) for name in stamp_columns(SPEC)}
    still = np.zeros(2, np.float32)
    return Episode(task, [Frame({"front": np.zeros((32, 48, 3), np.uint8)}, still, still, extra=stamps | odd)])


def test_episodes_are_written_as_they_come_and_one_without_words_is_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    writer = EpisodeWriter(tmp_path / "out", SPEC, said.append)
    writer.offer([episode(), episode(""), episode()])
    writer.close()
    assert (writer.count, writer.frames, writer.failed) == (2, 2, "")
    assert said == ["an episode without words is left out: set the parameter task"]
    check_out(str(tmp_path / "out"), SPEC)


def test_an_episode_that_cannot_be_written_is_told_and_what_was_written_before_is_whole(tmp_path: Path) -> None:
    from lerobot.datasets import LeRobotDataset

    said: list[str] = []
    writer = EpisodeWriter(tmp_path / "out", SPEC, said.append)
    writer.offer([episode(), episode(other=np.zeros(1)), episode()])
    writer.close()
    assert writer.count == 1 and "ValueError" in writer.failed and "nothing more is recorded: ValueError" in said[0]
    assert LeRobotDataset("vla/out", root=tmp_path / "out").num_frames == 1


def test_a_dataset_with_other_columns_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    recorder = EpisodeRecorder(tmp_path / "labelled", SPEC)
    recorder.write(Episode("wave", [replace(frame, extra={}) for frame in episode().frames]))
    recorder.close()
    with pytest.raises(UserError, match="its columns differ in disturbed, executed, goal_pixel"):
        check_out(str(tmp_path / "labelled"), SPEC)
