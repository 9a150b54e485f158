"""A robot as LeRobot's plugins are: the arm of the tabletop in MuJoCo, in degrees, with the gripper in percent."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from lerobot.cameras import CameraConfig
from lerobot.robots import Robot, RobotConfig

SAMPLES = 10
"""Of a 200th of a second each, that pass with every action."""


@RobotConfig.register_subclass("tablearm")
@dataclass(kw_only=True)
class TablearmConfig(RobotConfig):
    """unplugged: while a file of this name exists, the camera `front` cannot be read. log: gets every action."""

    seed: int = 0
    unplugged: str = ""
    log: str = ""
    calibrated: bool = True
    max_step: float = 360.0
    cameras: dict[str, CameraConfig] = field(default_factory=dict)


class Tablearm(Robot):
    config_class = TablearmConfig
    name = "tablearm"

    def __init__(self, config: TablearmConfig) -> None:
        super().__init__(config)
        self.config, self._sim = config, None

    @cached_property
    def action_features(self) -> dict:
        return {f"joint{i}.pos": float for i in range(1, 8)} | {"gripper.pos": float}

    @cached_property
    def observation_features(self) -> dict:
        return self.action_features | {"front": (96, 96, 3), "wrist": (96, 96, 3)}

    @property
    def is_connected(self) -> bool:
        return self._sim is not None

    def connect(self, calibrate: bool = True) -> None:
        from vla.robots.gym_sim import make_robot

        self._sim = make_robot("tabletop")
        self._state = self._sim.reset(self.config.seed).state

    @property
    def is_calibrated(self) -> bool:
        return self.config.calibrated

    def calibrate(self) -> None:
        raise AssertionError("nobody asked for that")

    def configure(self) -> None:
        pass

    def get_observation(self) -> dict:
        if self.config.unplugged and Path(self.config.unplugged).exists():
            raise TimeoutError("front: the newest picture is too old")
        env = self._sim.environment
        joints, gripper = np.degrees(self._state[:7]), 100 * self._state[-1]
        return self._named([*joints, gripper]) | {name: env.image(name) for name in ("front", "wrist")}

    def send_action(self, action: dict) -> dict:
        wanted = np.array([action[name] for name in self.action_features])
        here = np.degrees(self._state[:7])
        wanted[:7] = here + np.clip(wanted[:7] - here, -self.config.max_step, self.config.max_step)
        for _ in range(SAMPLES):
            self._state = self._sim.servo(np.radians(wanted[:7]), wanted[7] / 100)
        if self.config.log:
            with open(self.config.log, "a") as log:
                print(*wanted, file=log)
        return self._named(wanted)

    def disconnect(self) -> None:
        self._sim.close()
        self._sim = None

    def _named(self, values) -> dict:
        return {name: float(value) for name, value in zip(self.action_features, values, strict=True)}
