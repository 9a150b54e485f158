"""The arm of the benchmark behind LeRobot's interfaces, and LeRobot's own loop that records it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.configs.dataset import DatasetRecordConfig
from lerobot.datasets import LeRobotDataset
from lerobot.processor import make_default_processors
from lerobot.robots import Robot, RobotConfig
from lerobot.scripts.lerobot_record import record_loop
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig
from lerobot.utils.feature_utils import combine_feature_dicts, hw_to_dataset_features

from vla.bench.bench_arm import BenchArm


@dataclass
class ArmConfig(RobotConfig):
    """The arm needs none."""


@dataclass
class HandConfig(TeleoperatorConfig):
    """The hand needs none."""


class LeRobotArm(Robot):
    """`arm` as LeRobot sees a robot."""

    config_class, name = ArmConfig, "bench_arm"

    def __init__(self, arm: BenchArm, folder: Path) -> None:
        super().__init__(ArmConfig(calibration_dir=folder / "calibration"))
        self.arm = arm
        self._joints = [f"joint{i}.pos" for i in range(arm.spec.state_size)]

    @property
    def observation_features(self) -> dict[str, Any]:
        cameras = {camera.name: (camera.height, camera.width, 3) for camera in self.arm.spec.cameras}
        return {**self.action_features, **cameras}

    @property
    def action_features(self) -> dict[str, Any]:
        return dict.fromkeys(self._joints, float)

    @property
    def is_connected(self) -> bool:
        return True

    @property
    def is_calibrated(self) -> bool:
        return True

    def connect(self, calibrate: bool = True) -> None: ...

    def calibrate(self) -> None: ...

    def configure(self) -> None: ...

    def disconnect(self) -> None: ...

    def get_observation(self) -> dict[str, Any]:
        seen = self.arm.observe()
        return {**dict(zip(self._joints, map(float, seen.state), strict=True)), **seen.images}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        self.arm.command(np.array([action[name] for name in self._joints], np.float32))
        return action


class LeRobotHand(Teleoperator):
    """Sways the arm."""

    config_class, name = HandConfig, "bench_hand"

    def __init__(self, names: list[str], folder: Path) -> None:
        super().__init__(HandConfig(calibration_dir=folder / "calibration"))
        self._names, self._turn = names, 0

    @property
    def action_features(self) -> dict[str, Any]:
        return dict.fromkeys(self._names, float)

    @property
    def feedback_features(self) -> dict[str, Any]:
        return {}

    @property
    def is_connected(self) -> bool:
        return True

    @property
    def is_calibrated(self) -> bool:
        return True

    def connect(self, calibrate: bool = True) -> None: ...

    def calibrate(self) -> None: ...

    def configure(self) -> None: ...

    def disconnect(self) -> None: ...

    def get_action(self) -> dict[str, Any]:
        self._turn += 1
        return {name: 0.2 * float(np.sin(0.02 * self._turn + i)) for i, name in enumerate(self._names)}

    def send_feedback(self, feedback: dict[str, Any]) -> None: ...


def record(arm: BenchArm, fps: int, seconds: float, out: Path) -> int:
    """One episode with the defaults of `lerobot-record`; returns how many pictures had yet to be written at its end."""
    logging.disable(logging.WARNING)  # a line for every step that comes late
    out.mkdir(parents=True)
    robot = LeRobotArm(arm, out)
    hand = LeRobotHand(list(robot.action_features), out)
    defaults = DatasetRecordConfig()
    features = combine_feature_dicts(
        hw_to_dataset_features(robot.action_features, "action", defaults.video),
        hw_to_dataset_features(robot.observation_features, "observation", defaults.video),
    )
    dataset = LeRobotDataset.create(
        "local/bench",
        fps,
        features,
        root=out / "dataset",
        robot_type=robot.name,
        use_videos=defaults.video,
        image_writer_processes=defaults.num_image_writer_processes,
        image_writer_threads=defaults.num_image_writer_threads_per_camera * len(arm.spec.cameras),
        streaming_encoding=defaults.streaming_encoding,
        encoder_queue_maxsize=defaults.encoder_queue_maxsize,
    )
    writer: Any = dataset.writer
    try:
        record_loop(
            robot,
            {"exit_early": False},
            fps,
            *make_default_processors(),
            dataset=dataset,
            teleop=hand,
            control_time_s=seconds,
            single_task="sway",
        )
        return int(writer.image_writer.queue.qsize())
    finally:
        logging.disable(logging.NOTSET)
        dataset.clear_episode_buffer()
        writer.stop_image_writer()
