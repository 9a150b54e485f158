"""What one episode of the control loop measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vla.robots.base import Observation

if TYPE_CHECKING:  # loads torch, which a process that only watches has no use for
    from vla.s2.thought import Thought


@dataclass(frozen=True)
class Words:
    """Something S2 said: the text, and the capture time in seconds of the image it was said about."""

    stamp: float
    text: str


@dataclass(frozen=True)
class StepView:
    """One control step as an onlooker (recorder, overlay) sees it.

    thought: what S1 works from, None if nothing; age_s: its age now; words: the newest S2 said about this instruction.
    held: the robot is waiting instead of acting.
    """

    step: int
    now: float
    observation: Observation
    instruction: str
    action: NDArray[np.float32]
    thought: Thought | None
    age_s: float | None
    words: str | None
    held: bool


@dataclass
class Trace:
    """Measurements of one episode.

    s1_ms, s2_ms: wall-clock milliseconds of each call of the model. s2_age_s: age of the thought, in simulated
    seconds, at each replan. holds, starvations, stale: control steps without an action because there was no thought,
    because the chunk had run out, because the thought was older than `s2_stop`. warnings: replans with a thought
    older than `s2_warn`.
    """

    s1_ms: list[float] = field(default_factory=list)
    s2_ms: list[float] = field(default_factory=list)
    s2_age_s: list[float] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)
    steps: int = 0
    holds: int = 0
    starvations: int = 0
    stale: int = 0
    warnings: int = 0

    def counts(self) -> Mapping[str, int]:
        return {name: getattr(self, name) for name in ("holds", "starvations", "stale", "warnings")}
