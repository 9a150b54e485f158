"""A robot that takes one action a control period, with the safety gate in front."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla.errors import UserError
from vla.robots.base import Observation, Robot
from vla.runtime.commands import Action
from vla.runtime.kinematics import Joints
from vla.runtime.safety_gate import Passed, SafetyGate


class GuardedRobot:
    """`robot` must be connected. Raises UserError as `SafetyGate`, or if the spec's state has no joints to look at."""

    def __init__(self, robot: Robot) -> None:
        spec = robot.spec
        if "joint_position" not in spec.state_slices:
            raise UserError(f"robot spec: {spec.name}: its state has no joint_position, which the safety gate looks at")
        self.robot = robot
        self.gate = SafetyGate(spec, rate_hz=spec.rate_hz)

    def reset(self, seed: int | None) -> Observation:
        """Begin again, at rest; RuntimeError while the robot moves."""
        observation = self.robot.reset(seed)
        self.gate.reset(self.joints(observation), self.gripper(observation))
        return observation

    def release(self, observation: Observation) -> None:
        """Go on after a stop. Raises RuntimeError while the robot still brakes."""
        self.gate.reset(self.joints(observation), self.gripper(observation))

    def command(
        self, action: Action | None, now: float, observation: Observation
    ) -> tuple[Passed, NDArray[np.float32]]:
        """Send an action (A,), or None to hold, as the gate lets it pass; returns what it said and what was sent."""
        passed = self.gate.step(action, now, now, self.joints(observation))
        return passed, self.robot.command(np.asarray(passed.applied, np.float32))

    def joints(self, observation: Observation) -> Joints:
        return np.asarray(observation.state[self.robot.spec.state_slices["joint_position"]], np.float64)

    def gripper(self, observation: Observation) -> float | None:
        place = self.robot.spec.state_slices.get("gripper")
        if place is None or not self.gate.layout.gripper_size:
            return None
        return float(observation.state[place][0])
