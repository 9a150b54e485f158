"""The last thing before `Robot.command`: every sample is checked, brought within the limits, or answered by a stop.

What holds for every sample it lets through, whatever goes in: joint position, velocity, acceleration and jerk within
the spec's limits, tool speed and workspace too, and from there a way to rest on which they still hold. See
docs/safety.md for what this does and does not protect from.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from vla.actions.limits import JointLimiter, Motion
from vla.actions.poses import Matrix, Position, delta_between, integrate_delta
from vla.actions.rotations import matrix_to_axis_angle
from vla.errors import UserError
from vla.runtime.commands import Action, ActionLayout, Command
from vla.runtime.kinematics import ArmKinematics, Joints
from vla.runtime.pacing import Pacer
from vla.runtime.safe_motion import SafeMotion
from vla.runtime.tool_guard import ToolGuard
from vla.spec import Limits, RobotSpec

_AHEAD_S = 0.1
"""A commanded velocity leads to where it would in this time (s)."""


@dataclass(frozen=True)
class GateSettings:
    """stale_s: an action older than this (s) is not executed. start_joint, start_tool, start_turn: how far (rad, m,
    rad) the first pose commanded may be from the measured one. hold_tolerance: tracking error (rad, any joint) up to
    which a hold keeps the commanded pose, and a robot that leans on its limit counts as within it. unreachable: error
    (m, rad) of inverse kinematics that is reported.
    """

    stale_s: float = 0.1
    start_joint: float = 0.1
    start_tool: float = 0.05
    start_turn: float = 0.2
    hold_tolerance: float = 0.02
    unreachable: float = 5e-3


@dataclass(frozen=True)
class Passed:
    """What one sample came to.

    commanded: as it was given, None if nothing usable was. applied: (A,) what the robot is to get. joints: (N,) the
    joint positions that means, in rad. rules: what was enforced in it, such as "velocity.joint3". stopped: why the gate
    is latched, or None. held: it does not follow actions, because it is latched or because there are none.
    """

    commanded: Action | None
    applied: Action
    joints: Joints
    rules: tuple[str, ...]
    stopped: str | None
    held: bool


class SafetyGate:
    """Call `reset` with where the robot is, then `step` once per sample.

    limits: instead of the spec's. rate_hz: samples per second. Raises UserError if there are no limits or no
    kinematics to check the tool with, or if the spec's action cannot be commanded.
    """

    def __init__(
        self,
        spec: RobotSpec,
        limits: Limits | None = None,
        *,
        rate_hz: float = 200.0,
        settings: GateSettings | None = None,
    ) -> None:
        limits = limits or spec.limits
        if limits is None:
            raise UserError(f"robot spec: {spec.name} has no limits; add them to the spec: docs/safety.md")
        if spec.kinematics is None:
            raise UserError(f"robot spec: {spec.name} has no kinematics; add them to the spec: docs/safety.md")
        self.spec = replace(spec, limits=limits)
        self.settings = settings or GateSettings()
        self.layout = ActionLayout(self.spec)
        self.dt = 1.0 / rate_hz
        self.counts: Counter[str] = Counter()
        self.stopped: str | None = "never reset"
        self._joints = spec.kinematics.joints
        self._arm = ArmKinematics(spec.kinematics)
        self._limiter = JointLimiter(limits, self.dt)
        self._tool = ToolGuard(self._arm, limits, self.dt)
        self._pacer = Pacer(self._limiter, self._tool)
        self._safe: SafeMotion | None = None
        self._gripper: Float[np.ndarray, " G"] = np.zeros(self.layout.gripper_size)
        # What a Cartesian command integrates onto, the joints found for it, and how far (m, rad) they are from it.
        self._place: Position = np.zeros(3)
        self._turn: Matrix = np.eye(3)
        self._solution: Joints = np.zeros(len(self._joints))
        self._error = 0.0

    def reset(self, measured: Joints, gripper: float | None = None, lost: bool = False) -> None:
        """Begin, or begin again after a stop, from the measured joints (N,) and, if there is one, the gripper.

        lost: the robot was out of touch, so its motion is not what was commanded. Raises UserError if the robot is
        outside its limits, by more than it may be off where it was told to be, and RuntimeError while it still brakes,
        unless it was lost.
        """
        here = np.array(measured, np.float64)
        if self._safe is not None and not self.at_rest and not lost:
            raise RuntimeError("the gate is still braking: reset it when it is at rest")
        self._check_start(here, gripper)
        if self._safe is not None and not lost and self._tracks(here) and self.layout.mode != "joint_velocity":
            here = self.motion.position
        here = np.clip(here, self._limiter.low, self._limiter.high)
        self._begin(here)
        self._posture = here
        self._gripper = np.full(self.layout.gripper_size, 0.0 if gripper is None else gripper)
        self._hold_target: Joints | None = None
        self._following = False
        self._fresh = True
        self.stopped = None

    def stop(self, reason: str) -> None:
        """Latch: brake and hold until `reset`. The first reason stays."""
        if self.stopped is None:
            self.stopped = reason
            self.counts[reason] += 1

    def expect_start(self) -> None:
        """Somebody else commands from now on: the first that comes may not be a jump, as after `reset`."""
        self._fresh = True

    def step(self, action: Action | None, now: float, stamp: float, measured: Joints) -> Passed:
        """One sample. action: (A,), or None to hold; stamp: when it was decided; measured: joints (N,) in rad.

        now and stamp are seconds on one clock. Raises RuntimeError before the first `reset`, and never for its inputs.
        """
        safe = self._ready()
        rules: list[str] = []
        sensed = np.shape(measured) == self._limiter.low.shape and bool(np.isfinite(measured).all())
        if not sensed:
            self.stop("measured")
        fault = None if action is None else self.layout.fault(action)
        if fault is not None:
            self.stop(fault)
        usable = None if action is None or fault else self._usable(action, now, stamp, measured, rules)
        if usable is None:
            safe.advance(self._hold(measured if sensed else None), rules)
        else:
            if not self._following:
                self._aim(safe.motion.position)
            self._hold_target = None
            acceleration, goal = self._follow(safe.motion, usable, rules)
            safe.advance(acceleration, rules, goal)
        self._following = usable is not None
        self.counts.update(dict.fromkeys(rules, 1))
        commanded = None if action is None or fault else np.array(action, np.float64)
        joints = self.motion.position.copy()
        return Passed(commanded, self._encode(), joints, tuple(rules), self.stopped, usable is None)

    @property
    def at_rest(self) -> bool:
        return self._ready().motion.is_rest

    @property
    def motion(self) -> Motion:
        """Where the commanded joints are and how they move."""
        return self._ready().motion

    @property
    def pose(self) -> tuple[Position, Matrix]:
        """The commanded pose of the tool, in the base frame."""
        return self._ready().pose

    @property
    def target(self) -> tuple[Position, Matrix]:
        """The pose of the tool that a delta would integrate onto, in the base frame."""
        return self._place, self._turn

    @property
    def twist(self) -> Float[np.ndarray, " 6"]:
        """The commanded velocity of the tool: m/s and rad/s in the base frame."""
        return self._arm.jacobian(self.motion.position) @ self.motion.velocity

    @property
    def gripper(self) -> Float[np.ndarray, " G"]:
        return self._gripper

    def _ready(self) -> SafeMotion:
        if self._safe is None:
            raise RuntimeError("reset the gate before its first step")
        return self._safe

    def _begin(self, joints: Joints) -> None:
        self._safe = SafeMotion(joints, self._arm, self._limiter, self._tool, self._joints)
        self._aim(joints)

    def _check_start(self, measured: Joints, gripper: float | None) -> None:
        limiter = self._limiter
        if measured.shape != limiter.low.shape or not np.isfinite(measured).all():
            raise UserError(f"the measured joints must be {len(limiter.low)} finite numbers, got {measured}")
        for name, value, low, high in zip(self._joints, measured, limiter.low, limiter.high, strict=True):
            if not low - self.settings.hold_tolerance <= value <= high + self.settings.hold_tolerance:
                raise UserError(f"{name} is at {value:.4f}, outside [{low}, {high}]: bring it back by hand")
        if self.layout.gripper_size and (gripper is None or not np.isfinite(gripper)):
            raise UserError(f"{self.spec.name} has a gripper: say how far it is open when the gate is reset")

    def _usable(self, action: Action, now: float, stamp: float, measured: Joints, rules: list[str]) -> Command | None:
        """The command if it may be followed; else why not goes into `rules`, or latches the gate."""
        if self.stopped is not None:
            return None
        if not abs(now - stamp) <= self.settings.stale_s:
            rules.append("stale")
            return None
        command = self.layout.decode(action)
        jump = self._start_jump(command, measured) if self._fresh else None
        if jump is not None:
            self.stop(jump)
            return None
        self._fresh = False
        return command

    def _start_jump(self, command: Command, measured: Joints) -> str | None:
        if self.layout.mode == "joint_position":
            far = np.abs(command.vector - measured) > self.settings.start_joint
            return f"start_jump.{self._joints[int(far.argmax())]}" if far.any() else None
        if self.layout.mode == "ee_pose":
            place, turn = self._arm.forward(measured)
            angle = 0.0 if command.turn is None else np.linalg.norm(matrix_to_axis_angle(command.turn @ turn.T))
            far_off = np.linalg.norm(command.vector - place) > self.settings.start_tool
            return "start_jump.tool" if far_off or angle > self.settings.start_turn else None
        return None

    def _follow(self, motion: Motion, command: Command, rules: list[str]) -> tuple[Joints, Joints]:
        """The acceleration that follows a command, which keeps joint limits except where braking is too late, and the
        joints to which it leads.
        """
        low, high = self.layout.gripper_range
        self._gripper = np.clip(command.gripper, low, high)
        if (self._gripper != command.gripper).any():
            rules.append("gripper")
        if self.layout.mode == "joint_velocity":
            velocity = self._pacer.velocity(motion.position, command.vector, self._joints, rules)
            acceleration = self._limiter.match(motion, velocity)
            wanted = motion.position + velocity * self.dt
            goal = motion.position + velocity * _AHEAD_S
        else:
            goal = self._target(command, rules)
            wanted, speed = self._pacer.toward(goal, self._joints, rules)
            acceleration = self._limiter.toward(motion, wanted, speed)
        rules += self._shaped(motion, acceleration, wanted)
        return acceleration, goal

    def _target(self, command: Command, rules: list[str]) -> Joints:
        """The joints a position command means, within position limits and with the tool in its box."""
        if self.layout.mode == "joint_position":
            joints = np.clip(command.vector, self._limiter.low, self._limiter.high)
            moved = joints != command.vector
            rules += [f"position.{name}" for name, out in zip(self._joints, moved, strict=True) if out]
            place, turn = self._arm.forward(joints)
            inside, axes = self._tool.clip(place)
            if not axes:
                return joints
            rules += axes
            return self._inverse(joints, inside, turn, rules)[0]
        if self.layout.mode == "ee_delta":
            still = np.eye(3) if command.turn is None else command.turn
            place, turn = integrate_delta(self._place, self._turn, command.vector, still)
        else:
            place, turn = command.vector, self._turn if command.turn is None else command.turn
        place, axes = self._tool.clip(place)
        rules += axes
        joints, error = self._inverse(self._solution, place, turn, rules)
        if self.layout.mode == "ee_delta" and error > max(self.settings.unreachable, self._error):
            # Deltas that lead out of reach must not add up, or as many would have to lead back.
            place, turn = self._tool.clip(self._arm.forward(joints)[0])[0], self._turn
        else:
            self._error = error
        self._place, self._turn, self._solution = place, turn, joints
        return joints

    def _inverse(self, start: Joints, place: Position, turn: Matrix, rules: list[str]) -> tuple[Joints, float]:
        limiter = self._limiter
        joints, error = self._arm.inverse(start, place, turn, self._posture, limiter.low, limiter.high)
        if error > self.settings.unreachable:
            rules.append("unreachable")
        return joints, error

    def _hold(self, measured: Joints | None) -> Joints:
        """Brake; then keep one target, chosen once: re-reading the pose of a loaded arm would let it sag."""
        if self._hold_target is None:
            if not self.at_rest:
                return self._ready().braking
            if measured is not None and self.layout.mode == "joint_velocity":
                # Velocities add up to a position the robot need not be at; while it rests there is time to look.
                self._begin(np.clip(measured, self._limiter.low, self._limiter.high))
            here = self.motion.position
            if measured is None or self.spec.action.is_relative or self._tracks(measured):
                self._hold_target = here
            else:
                self._hold_target = np.clip(measured, self._limiter.low, self._limiter.high)
            self._aim(here)
        paced, speed = self._pacer.toward(self._hold_target, self._joints, [])
        return self._limiter.toward(self.motion, paced, speed)

    def _tracks(self, measured: Joints) -> bool:
        return bool(np.abs(self.motion.position - measured).max() <= self.settings.hold_tolerance)

    def _aim(self, joints: Joints) -> None:
        """Forget earlier targets: what comes next starts from these joints."""
        self._pacer.start(joints)
        self._solution, self._error = joints, 0.0
        self._place, self._turn = self._arm.forward(joints)

    def _shaped(self, motion: Motion, acceleration: Joints, wanted: Joints) -> list[str]:
        """Names for what a sample differs in from what was wanted after pacing."""
        limiter = self._limiter
        asked = ((wanted - motion.position) / self.dt - motion.velocity) / self.dt
        differs = np.abs(asked - acceleration) * self.dt**2 > 1e-8
        too_hard = np.abs(asked) > limiter.acceleration
        return [
            f"{'acceleration' if hard else 'jerk'}.{name}"
            for name, other, hard in zip(self._joints, differs, too_hard, strict=True)
            if other
        ]

    def _encode(self) -> Action:
        safe, motion = self._ready(), self.motion
        if self.layout.mode == "joint_position":
            return self.layout.encode(Command(motion.position, None, self._gripper))
        if self.layout.mode == "joint_velocity":
            return self.layout.encode(Command(motion.velocity, None, self._gripper))
        pose = safe.pose if self.layout.mode == "ee_pose" else delta_between(*safe.pose_before, *safe.pose)
        return self.layout.encode(Command(*pose, self._gripper))
