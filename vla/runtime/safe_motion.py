"""Moves the joints one sample on, and only to where a way to rest is known on which every limit holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.actions.limits import JointLimiter, Motion
from vla.actions.poses import Matrix, Position
from vla.runtime.kinematics import ArmKinematics, Joints
from vla.runtime.tool_guard import ToolGuard

_SHARES = np.linspace(0.0, 1.0, 17)[:, None]
_EASED = np.array([0.75, 0.5, 0.25])[:, None]
_SLID = np.array([1.0, 0.5, 0.25])[:, None]
"""Shares of what is wanted, and of sliding along the edge of the box, that are tried where the whole is not safe."""
_CLOSE = 1e-5
"""Joint distance (rad) at which a goal beyond the edge is as near as it gets."""
_GENTLE = 0.1
"""The share of the way to its goal that a sliding joint goes in a sample, at most."""


class SafeMotion:
    """motion: where the joints are told to be, beginning at rest at `joints` (N,) rad; names: of the joints.

    pose, pose_before: of the tool in the base frame, now and one sample ago. The way to rest is kept from sample to
    sample: whenever the next one would leave none, the robot goes on along the way it has.
    """

    def __init__(
        self, joints: Joints, arm: ArmKinematics, limiter: JointLimiter, tool: ToolGuard, names: Sequence[str]
    ) -> None:
        self._arm, self._limiter, self._tool, self._names = arm, limiter, tool, names
        self.motion = Motion.rest(joints)
        self.pose: tuple[Position, Matrix] = arm.forward(joints)
        self.pose_before = self.pose
        self._way = self.motion.position[None]

    @property
    def braking(self) -> Joints:
        """The acceleration (N,) of the next sample on the known way to rest."""
        dt, motion = self._limiter.dt, self.motion
        following = self._way[min(1, len(self._way) - 1)]
        return ((following - motion.position) / dt - motion.velocity) / dt

    def advance(self, wanted: Joints, rules: list[str], goal: Joints | None = None) -> None:
        """One sample at the acceleration `wanted` (N,), or as much of it as is safe; `rules` gets what forbade it.

        goal: the joints (N,) it leads to, if any. Where the tool's box forbids the way there, the tool slides along.
        """
        brake = self.braking
        if not np.isfinite(wanted).all():
            rules.append("non_finite")
            wanted = brake
        way = self._way_after(wanted)
        kept = self._limiter.keeps_position(way)
        if not kept.all():
            rules += [f"position.{name}" for name, ok in zip(self._names, kept, strict=True) if not ok]
            wanted = self._within_joint_limits(wanted, brake)
            way = self._way_after(wanted)
        broken = self._tool.broken(self.pose[0], way)
        if broken:
            rules.append(broken)
            wanted, way = self._within_tool_limits(wanted, brake, goal)
        elif (wanted == brake).all():
            way = self._way_on
        self.motion = self.motion.then(wanted, self._limiter.dt)
        if self.motion.is_rest:
            self.motion = Motion.rest(self.motion.position)
        self._way = way
        self.pose_before, self.pose = self.pose, self._arm.forward(self.motion.position)

    def _within_joint_limits(self, wanted: Joints, brake: Joints) -> Joints:
        """For each joint on its own, the largest share between braking and `wanted` that can stop in time."""
        tries = brake + _SHARES * (wanted - brake)
        fine = self._limiter.keeps_position(self._way_after(tries))
        share = np.logical_and.accumulate(fine, 0).sum(0) - 1
        return np.where(share < 0, brake, tries[np.maximum(share, 0), np.arange(len(brake))])

    def _within_tool_limits(self, wanted: Joints, brake: Joints, goal: Joints | None) -> tuple[Joints, np.ndarray]:
        """The acceleration, and the way to rest that follows it."""
        tries = brake + _EASED * (wanted - brake)
        slide = None if goal is None else self._slide(goal, brake)
        if slide is not None:
            tries = np.concatenate([tries, brake + _SLID * (slide - brake)])
        ways = self._way_after(tries)
        for i in np.flatnonzero(self._limiter.keeps_position(ways).all(-1)):
            if self._tool.broken(self.pose[0], ways[:, i]) is None:
                return tries[i], ways[:, i]
        return brake, self._way_on

    def _slide(self, goal: Joints, brake: Joints) -> Joints | None:
        """The acceleration that leads along the edge of the box towards `goal`, all joints in proportion."""
        limiter, motion = self._limiter, self.motion
        step = self._tool.along(self.pose[0], motion.position, goal - motion.position)
        size = np.abs(step)
        if size.max() < _CLOSE:
            return None
        size = np.maximum(size, _CLOSE)
        pace = min((limiter.velocity / size).min(), np.sqrt(limiter.acceleration / size).min(), _GENTLE / limiter.dt)
        change = (pace * step - motion.velocity) / limiter.dt - brake
        low, high = limiter.window(motion)
        room = np.where(change < 0, low - brake, high - brake)
        share = (room / np.where(change == 0, 1, change))[change != 0].min(initial=1.0)
        return brake + max(float(share), 0.0) * change

    @property
    def _way_on(self) -> np.ndarray:
        """What is left of the known way to rest, one sample on: it was found good to the last bit."""
        return self._way[min(1, len(self._way) - 1) :]

    def _way_after(self, acceleration: np.ndarray) -> np.ndarray:
        return self._limiter.stop_path(self.motion.then(acceleration, self._limiter.dt))
