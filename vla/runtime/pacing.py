"""How fast the target itself may go, so that the limiter behind it has little left to do.

A target that jumps, or goes faster than the joints or the tool may, is approached on a straight line in joint space, at
the speed the slowest of them allows, slowing down before the end. One that keeps its limits passes as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.actions.limits import JointLimiter
from vla.runtime.kinematics import Joints
from vla.runtime.tool_guard import ToolGuard

_PART = 0.98
_BRAKING = 0.9
"""The part of the acceleration limit with which a paced target slows down."""


class Pacer:
    """`target` (N,), in rad, is where it got to."""

    def __init__(self, limiter: JointLimiter, tool: ToolGuard) -> None:
        self._limiter = limiter
        self._tool = tool
        self._dt = limiter.dt
        self.target = np.zeros_like(limiter.low)
        self._wanted = self.target
        self._late = False

    def start(self, joints: Joints) -> None:
        self.target = self._wanted = np.array(joints, np.float64)
        self._late = False

    def toward(self, wanted: Joints, names: Sequence[str], rules: list[str]) -> tuple[Joints, Joints]:
        """The next target (rad) and the speed (rad/s) at which it goes; `rules` gets what held it back."""
        limiter, dt = self._limiter, self._dt
        own_speed = np.abs(wanted - self._wanted) / dt
        own_speed = np.where(own_speed > limiter.velocity, 0, own_speed)
        step = wanted - self.target
        size = np.abs(step)
        too_fast = size > limiter.velocity * dt * (1 + 1e-9)
        catching_up = self._late and (size > (own_speed + limiter.acceleration * dt) * dt).any()
        share = 1.0
        if too_fast.any() or catching_up:
            slowing = own_speed + np.sqrt(2 * _BRAKING * limiter.acceleration * size)
            allowed = np.minimum(_PART * limiter.velocity, slowing) * dt
            share = float(np.min(np.where(size > allowed, allowed / np.maximum(size, 1e-12), 1.0)))
            rules += [f"velocity.{name}" for name, fast in zip(names, too_fast, strict=True) if fast]
        tool = self._tool.pace(self.target, share * step)
        if tool < 1:
            rules.append("tool_speed")
        share *= tool
        self._late = share < 1
        before, self._wanted = self.target, wanted
        self.target = before + share * step if self._late else wanted
        return self.target, (self.target - before) / dt

    def velocity(self, joints: Joints, wanted: Joints, names: Sequence[str], rules: list[str]) -> Joints:
        """A commanded joint velocity (rad/s), each joint within its limit and the tool within its own."""
        limit = self._limiter.velocity
        clipped = np.clip(wanted, -limit, limit)
        rules += [f"velocity.{name}" for name, fast in zip(names, clipped != wanted, strict=True) if fast]
        share = self._tool.pace(joints, clipped * self._dt)
        if share < 1:
            rules.append("tool_speed")
        return share * clipped
