"""A simulated arm that can be put into recorded states, to replay what was recorded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla.errors import UserError
from vla.robots.gym_sim import GymRobot, find_environment
from vla.spec import RobotSpec


class ReplayedArm:
    """The environment `name` without pictures, and without anything that the arm could touch.

    Raises UserError if the recording's spec is another robot's, or the environment's arm cannot be placed.
    """

    def __init__(self, name: str, recorded: RobotSpec) -> None:
        self._robot = GymRobot(find_environment(name), render=False)
        own = self._robot.spec
        differing = [
            line for line in own.diff(recorded, "the dataset") if line.startswith(("state", "action", "rate_hz"))
        ]
        if differing:
            raise UserError(f"--replay: {name} is another robot than the dataset's: {'; '.join(differing)}")
        joints = next((f.name for f in own.state if f.unit == "rad" and not f.rotation), None)
        if joints is None or "gripper" not in own.state_slices:
            raise UserError(f"--replay: the state of {name} has no joints and gripper to put the arm by")
        self._joints, self._gripper = own.state_slices[joints], own.state_slices["gripper"]
        self._robot.connect()
        if not hasattr(self._robot.environment, "pose_arm"):
            self._robot.close()
            raise UserError(f"--replay: the arm of {name} cannot be put where a recording was")
        self._robot.reset(0)

    def pose(self, state: NDArray[np.floating]) -> NDArray[np.float32]:
        opening = float(np.clip(state[self._gripper][0], 0, 1))
        raw = self._robot.environment.pose_arm(np.asarray(state[self._joints], np.float64), opening)
        return np.asarray(raw["agent_pos"], np.float32)

    def step(self, action: NDArray[np.floating]) -> NDArray[np.float32]:
        self._robot.command(np.asarray(action, np.float32))
        return self._robot.observe().state

    def close(self) -> None:
        self._robot.close()
