"""The newest control step of a live session, for onlookers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla.data.spool import Driver
from vla.robots.base import Observation
from vla.runtime.threaded_pilot import PilotStatus


@dataclass(frozen=True)
class Note:
    """Something to tell the operator. bad: it needs them."""

    number: int
    text: str
    bad: bool


@dataclass(frozen=True)
class Moment:
    """One control step, and how things stand after it.

    captured: when its observation was, seconds on `time.monotonic`. rate_hz, error_ms: of the last hundred periods, the
    latter the 99th percentile of how far a period is from what it should be. late: periods that were more than half a
    period too long. gripper: how far open it is wanted, in [0, 1]. success: the simulated scene counts the task as
    done; None if there is nobody to judge.
    """

    step: int
    observation: Observation
    captured: float
    driver: Driver
    engaged: bool
    trips: int
    why: str
    stopped: str | None
    at_rest: bool
    rules: tuple[str, ...]
    applied: NDArray[np.float32]
    gripper: float
    tool: NDArray[np.float64]
    rate_hz: float
    error_ms: float
    late: int
    instruction: str
    instructions: tuple[str, ...]
    policy_on: bool
    pilot: PilotStatus
    success: bool | None
    seed: int
    notes: tuple[Note, ...]
