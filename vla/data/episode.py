"""What a recording is made of: frames, and the episodes they make up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN_PIXEL = (-1.0, -1.0)
"""A target or goal that an episode does not have. LeRobot's statistics break on NaN."""
OTHERWISE = 0.006
"""By how much (m, rad, 1) what was executed differs from the action, if that is to matter."""


@dataclass(frozen=True)
class Frame:
    """One control step: what was sensed, and the action then taken.

    images: camera -> (H, W, 3) uint8 RGB. state (S,), action (A,): float32 in the spec's units.
    progress: 0 to 1. target_pixel, goal_pixel: (u, v) in [0, 1] of the front image; NaN or outside when unknown.
    success: the task was done after this action. disturbed: what then happened was not this action's doing: another was
    executed, or a hand reached in. Actions after it answer what could not be known here. executed (A,): what was done
    in the action's stead, None if that is the action. extra: values of columns of the recording's own.
    """

    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    subtask: str = ""
    progress: float = 0.0
    target_pixel: tuple[float, float] = UNKNOWN_PIXEL
    goal_pixel: tuple[float, float] = UNKNOWN_PIXEL
    success: bool = False
    disturbed: bool = False
    executed: NDArray[np.float32] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Episode:
    """An instruction and what happened under it."""

    task: str
    frames: list[Frame] = field(default_factory=list)

    @property
    def success(self) -> bool:
        return bool(self.frames) and self.frames[-1].success
