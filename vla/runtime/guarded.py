"""A robot that takes one action a control period, with the safety gate in front."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla.errors import UserError
from vla.robots.base import Observation, Robot
from vla.runtime.commands import Action
from vla.runtime.kinematics import Joints
from vla.runtime.safety_gate import Passed, SafetyGate
from vla.spec import RobotSpec, si_scale

REST_S = 20.0
"""Seconds of samples after which a run ends, though the gate should still brake."""


def gate_of(spec: RobotSpec) -> SafetyGate:
    """One sample a control period. Raises UserError as `SafetyGate`, or if the state lacks what it begins from."""
    if "joint_position" not in spec.state_slices:
        arms = sum(name.endswith("_joint_position") for name in spec.state_slices)
        why = "; two arms cannot be guarded yet: docs/ros2.md" if arms > 1 else ""
        raise UserError(
            f"robot spec: {spec.name}: its state has no joint_position, which the safety gate looks at{why}"
        )
    gate = SafetyGate(spec, rate_hz=spec.rate_hz)
    if gate.layout.gripper_size and "gripper" not in spec.state_slices:
        raise UserError(f"robot spec: {spec.name}: its action has a gripper, its state has none to begin from")
    return gate


class GuardedRobot:
    """`robot` must be connected. Raises UserError as `gate_of`."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self.gate = gate_of(robot.spec)
        self._scale = si_scale(robot.spec.state)

    def reset(self, seed: int | None) -> Observation:
        """Begin again, at rest; RuntimeError while the robot moves."""
        observation = self.robot.reset(seed)
        self.gate.reset(self.joints(observation), self.gripper(observation))
        return observation

    def release(self, observation: Observation) -> None:
        """Go on after a stop. Raises RuntimeError while the robot still brakes."""
        self.gate.reset(self.joints(observation), self.gripper(observation))

    def find(self, observation: Observation) -> None:
        """Go on from where the robot is after it was out of touch: it may have been moved. A stop stays one.

        Raises UserError as `SafetyGate.reset`; then the gate still goes on from where the robot was.
        """
        stopped = self.gate.stopped
        self.gate.reset(self.joints(observation), self.gripper(observation), lost=not self.gate.at_rest)
        if stopped is not None:
            self.gate.stop(stopped)

    def check(self, action: Action | None, now: float, observation: Observation | None) -> Passed:
        """What the gate makes of an action (A,), or of None, to hold. To be sent at once.

        observation: None while the robot does not say where it is: a hold is then where it was told to be.
        """
        measured = self.gate.motion.position if observation is None else self.joints(observation)
        return self.gate.step(action, now, now, measured)

    def send(self, passed: Passed) -> NDArray[np.float32]:
        """Returns what was really sent. Raises SensesLost if the robot finds that it has lost touch."""
        return self.robot.command(np.asarray(passed.applied, np.float32))

    def joints(self, observation: Observation) -> Joints:
        """(N,) in rad, as measured."""
        return self._measured(observation, "joint_position")

    def gripper(self, observation: Observation) -> float | None:
        """As measured, in metres or as a share of 1; None if there is none to command or to measure."""
        if "gripper" not in self.robot.spec.state_slices or not self.gate.layout.gripper_size:
            return None
        return float(self._measured(observation, "gripper")[0])

    def _measured(self, observation: Observation, field: str) -> NDArray[np.float64]:
        place = self.robot.spec.state_slices[field]
        return np.asarray(observation.state[place], np.float64) * self._scale[place]
