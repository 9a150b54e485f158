"""A camera on the robot that hangs but goes on stamping what it shows: told by the robot's own motion."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vla.robots.base import Observation
from vla.spec import RobotSpec, si_scale

MOVED = 0.3
"""How far (rad, m, or of the gripper's way) some entry of the state must have moved for an image to have to change."""


@dataclass(frozen=True)
class _Shown:
    """An image's sum, and when and in what state of the robot it was first shown."""

    sum: int
    stamp: float
    state: NDArray[np.float32]


class StuckCameras:
    """Looks at one observation after the other, at cameras that move with the robot.

    A fixed one, which in simulation has no noise, may see nothing of a motion.
    """

    def __init__(self, spec: RobotSpec) -> None:
        self._scale = si_scale(spec.state)
        self._cameras = [camera.name for camera in spec.cameras if camera.mount != "fixed"]
        self._shown: dict[str, _Shown] = {}
        self._stamp = -np.inf

    def since(self, observation: Observation) -> tuple[str, float] | None:
        """The camera that has shown one image for longest though the robot moved, and since when; None if all live."""
        if observation.stamp > self._stamp:
            self._stamp = observation.stamp
            for camera in self._cameras:
                known, now = self._shown.get(camera), crc32(np.ascontiguousarray(observation.images[camera]))
                if known is None or known.sum != now:
                    self._shown[camera] = _Shown(now, observation.stamp, observation.state)
        stuck = {
            camera: shown.stamp
            for camera, shown in self._shown.items()
            if np.abs(self._scale * (observation.state - shown.state)).max() > MOVED
        }
        return min(stuck.items(), key=lambda one: one[1]) if stuck else None
