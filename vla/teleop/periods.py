"""How well a control loop keeps its rate."""

from __future__ import annotations

from collections import deque

import numpy as np


class Periods:
    """Of the last hundred. wanted: seconds. late: how many, of all, were more than half a period too long."""

    def __init__(self, wanted: float) -> None:
        self._wanted = wanted
        self._lengths: deque[float] = deque(maxlen=100)
        self._began: float | None = None
        self.late = 0

    def note(self, now: float) -> None:
        """A period begins, at `now` in seconds."""
        if self._began is not None:
            self._lengths.append(now - self._began)
            self.late += self._lengths[-1] > 1.5 * self._wanted
        self._began = now

    def pause(self) -> None:
        """What comes before the next period is none."""
        self._began = None

    @property
    def rate_hz(self) -> float:
        return 1 / float(np.mean(self._lengths or [self._wanted]))

    @property
    def error_ms(self) -> float:
        """The 99th percentile of how far a period is from what it should be."""
        off = np.abs(np.array(self._lengths or [self._wanted]) - self._wanted)
        return 1e3 * float(np.quantile(off, 0.99))
