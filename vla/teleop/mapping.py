"""From how fast the hand wants the tool to move to an action of the robot's own mode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vla.actions.poses import integrate_delta
from vla.actions.rotations import axis_angle_to_matrix
from vla.errors import UserError
from vla.runtime.commands import Action, Command
from vla.runtime.kinematics import ArmKinematics
from vla.runtime.safety_gate import SafetyGate

Twist = Float[np.ndarray, " 6"]


@dataclass(frozen=True)
class Scaling:
    """What full deflection means. linear: m/s; angular: rad/s; settle_s: seconds from rest to full speed and back, so
    that neither a key nor a hand-over is a jerk.
    """

    linear: float = 0.25
    angular: float = 1.0
    settle_s: float = 0.2


class Mapper:
    """Turns readings into actions. The gate behind says where the robot is commanded to be: motions start there.

    rate_hz: control steps per second.
    """

    def __init__(self, gate: SafetyGate, rate_hz: float, scaling: Scaling | None = None) -> None:
        scaling = scaling or Scaling()
        spec = gate.spec
        if spec.kinematics is None:
            raise UserError(f"robot spec: {spec.name} has no kinematics, so a tool cannot be driven")
        self._gate, self._dt = gate, 1 / rate_hz
        self._arm = ArmKinematics(spec.kinematics)
        self._full = np.repeat([scaling.linear, scaling.angular], 3)
        self._change = self._dt / max(scaling.settle_s, self._dt)
        self._wish: Twist = np.zeros(6)
        self._opens = spec.action.gripper != "0 = open, 1 = closed"

    @property
    def at_rest(self) -> bool:
        """Neither moving nor slowing down."""
        return not self._wish.any()

    def rest(self) -> None:
        """The hand's motion is over, at once: somebody else drives, or the gate has stopped."""
        self._wish = np.zeros(6)

    def action(self, move: Twist, gripper: float) -> Action:
        """The next action (A,). move: in [-1, 1], zero to slow down and stop; gripper: 1 is open."""
        wanted = np.clip(move, -1, 1)
        self._wish = self._wish + np.clip(wanted - self._wish, -self._change, self._change)
        twist = self._wish * self._full
        step, turn = twist[:3] * self._dt, axis_angle_to_matrix(twist[3:] * self._dt)
        layout, gate = self._gate.layout, self._gate
        low, high = layout.gripper_range
        share = float(np.clip(gripper if self._opens else 1 - gripper, 0, 1))
        fingers = np.full(layout.gripper_size, low + share * (high - low))
        if layout.mode == "ee_delta":
            return layout.encode(Command(step, turn, fingers))
        place, facing = integrate_delta(*gate.pose, step, turn)
        if layout.mode == "ee_pose":
            return layout.encode(Command(place, facing, fingers))
        here = gate.motion.position
        bounds = np.array(gate.spec.limits.position if gate.spec.limits else [])
        joints, _ = self._arm.inverse(here, place, facing, here, bounds[:, 0], bounds[:, 1])
        vector = joints if layout.mode == "joint_position" else (joints - here) / self._dt
        return layout.encode(Command(vector, None, fingers))
