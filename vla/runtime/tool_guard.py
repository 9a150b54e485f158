"""The tool stays in its workspace box and under its speed limit, along the way and along every way to a stop."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vla.actions.poses import Position
from vla.runtime.kinematics import ArmKinematics, Joints
from vla.spec import Limits

BOX_TOLERANCE = 1e-3
"""How far (m) a path between two points of the box may bulge out of it."""
_PART = 0.98
"""Speeds are planned at this part of the limit, which leaves something to catch up with."""


class ToolGuard:
    """dt: sample period in seconds."""

    def __init__(self, arm: ArmKinematics, limits: Limits, dt: float) -> None:
        self._arm = arm
        self._dt = dt
        self.speed = limits.tool_speed
        box = limits.workspace
        self.low, self.high = np.array([box.x, box.y, box.z], np.float64).T

    def pace(self, joints: Joints, step: Joints) -> float:
        """The share of a small joint step that keeps the planned tool speed, at most 1."""
        speed = float(np.linalg.norm(self._arm.jacobian(joints)[:3] @ step)) / self._dt
        return min(1.0, _PART * self.speed / max(speed, 1e-12))

    def clip(self, position: Position) -> tuple[Position, list[str]]:
        """The nearest point of the box, and the axes along which it differs, as "workspace.x"."""
        inside = np.clip(position, self.low, self.high)
        return inside, [f"workspace.{axis}" for axis, moved in zip("xyz", inside != position, strict=True) if moved]

    def along(self, place: Position, joints: Joints, step: Joints) -> Joints:
        """The joint step next to `step` that does not lead a tool out that is at the edge of its box: it slides along,
        or back onto the edge. place: the tool at `joints`.
        """
        jacobian = self._arm.jacobian(joints)[:3]
        inward, going = np.clip(place, self.low, self.high) - place, jacobian @ step
        above, below = place > self.high - BOX_TOLERANCE, place < self.low + BOX_TOLERANCE
        out = (above & (going > inward)) | (below & (going < inward))
        return step + np.linalg.pinv(jacobian[out]) @ (inward - going)[out]

    def broken(self, now: Position, path: Float[np.ndarray, "T N"]) -> str | None:
        """The rule a joint path breaks for a tool that is at `now` one sample before it, or None.

        A tool that is outside the box already may only come nearer to it.
        """
        places = np.concatenate([now[None], self._arm.positions(path)])
        speeds = np.linalg.norm(np.diff(places, axis=0), axis=1) / self._dt
        outside = np.maximum(self.low - places, places - self.high)
        over = outside > np.maximum(BOX_TOLERANCE, outside[0] + 1e-9)
        for i, axis in enumerate("xyz"):
            if over[:, i].any():
                return f"workspace.{axis}"
        return "tool_speed" if speeds.max() > self.speed * (1 + 1e-9) else None
