"""From how fast the hand wants the tool to move to an action of the robot's own mode."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from vla.actions.poses import delta_between, integrate_delta
from vla.actions.rotations import axis_angle_to_matrix
from vla.errors import UserError
from vla.runtime.commands import Action, Command
from vla.runtime.kinematics import ArmKinematics, Joints
from vla.runtime.safety_gate import SafetyGate

Twist = Float[np.ndarray, " 6"]


@dataclass(frozen=True)
class Scaling:
    """What full deflection means. linear: m/s; angular: rad/s; settle_s: seconds from rest to full speed and back, so
    that neither a key nor a hand-over is a jerk. leader: rad of the arm for each of a leader's. align: rad/s, how fast
    an arm is brought to where its leader is while it follows, if it goes as far as that.
    """

    linear: float = 0.25
    angular: float = 1.0
    settle_s: float = 0.2
    leader: float = 1.0
    align: float = 0.3

    def times(self, factor: float) -> Scaling:
        return replace(self, linear=self.linear * factor, angular=self.angular * factor, leader=self.leader * factor)


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
        self._scaling = scaling
        self._offset: Joints | None = None
        self._opens = spec.action.gripper != "0 = open, 1 = closed"

    @property
    def at_rest(self) -> bool:
        """Neither moving nor slowing down."""
        return not self._wish.any()

    def rest(self) -> None:
        """The hand's motion is over, at once: somebody else drives, or the gate has stopped."""
        self._wish = np.zeros(6)
        self._offset = None

    def let_go(self) -> None:
        """A leader that is taken hold of again begins from where the arm is."""
        self._offset = None

    def action(self, move: Twist, gripper: float) -> Action:
        """The next action (A,). move: in [-1, 1], zero to slow down and stop; gripper: 1 is open."""
        wanted = np.clip(move, -1, 1)
        self._wish = self._wish + np.clip(wanted - self._wish, -self._change, self._change)
        twist = self._wish * self._full
        step, turn = twist[:3] * self._dt, axis_angle_to_matrix(twist[3:] * self._dt)
        layout, gate = self._gate.layout, self._gate
        if layout.mode == "ee_delta":
            return layout.encode(Command(step, turn, self._fingers(gripper)))
        place, facing = integrate_delta(*gate.pose, step, turn)
        if layout.mode == "ee_pose":
            return layout.encode(Command(place, facing, self._fingers(gripper)))
        here = gate.motion.position
        bounds = np.array(gate.spec.limits.position if gate.spec.limits else [])
        joints, _ = self._arm.inverse(here, place, facing, here, bounds[:, 0], bounds[:, 1])
        return self._toward(joints, gripper)

    def follow(self, leader: Joints, gripper: float) -> Action:
        """The next action (A,) on the way to where a leader arm is. leader: (N,) rad; gripper: 1 is open.

        Taking hold moves nothing: from where both are then, the arm makes the leader's motions.
        """
        scaled = self._scaling.leader * leader
        if self._offset is None:
            self._offset = self._gate.motion.position - scaled
        if self._scaling.leader == 1.0:
            most = self._scaling.align * self._dt
            self._offset = self._offset - np.clip(self._offset, -most, most)
        joints = scaled + self._offset
        if not self._gate.layout.is_cartesian:
            return self._toward(joints, gripper)
        place, facing = self._arm.forward(joints)
        if self._gate.layout.mode == "ee_delta":
            place, facing = delta_between(*self._gate.target, place, facing)
        return self._gate.layout.encode(Command(place, facing, self._fingers(gripper)))

    def _toward(self, joints: Joints, gripper: float) -> Action:
        layout, here = self._gate.layout, self._gate.motion.position
        vector = joints if layout.mode == "joint_position" else (joints - here) / self._dt
        return layout.encode(Command(vector, None, self._fingers(gripper)))

    def _fingers(self, gripper: float) -> Float[np.ndarray, " G"]:
        low, high = self._gate.layout.gripper_range
        share = float(np.clip(gripper if self._opens else 1 - gripper, 0, 1))
        return np.full(self._gate.layout.gripper_size, low + share * (high - low))
