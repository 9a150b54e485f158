"""Simulated time, which moves only when the simulator does, and the beat of a loop on the wall clock."""

import time

# Two times closer than this are the same moment: sums of 0.05 s periods are not exact in binary.
EPSILON = 1e-9


class SimClock:
    """Counts control periods; `now` is derived from the count, so it never drifts.

    rate_hz: control rate of the robot.
    """

    def __init__(self, rate_hz: float) -> None:
        self.rate_hz = rate_hz
        self.step = 0

    @property
    def now(self) -> float:
        """Seconds since the episode began."""
        return self.step / self.rate_hz

    def tick(self) -> None:
        self.step += 1


class Beat:
    """The periods of a control loop in wall-clock time: absolute deadlines, but never a burst to catch up.

    late: periods that began more than half a period after they were due.
    """

    def __init__(self, rate_hz: float) -> None:
        self._period = 1 / rate_hz
        self._due = time.monotonic()
        self.late = 0

    def wait(self) -> None:
        """Until the next period begins."""
        self._due += self._period
        left = self._due - time.monotonic()
        if left > 0:
            time.sleep(left)
        elif -left > self._period / 2:
            self.late += 1
            self._due = time.monotonic()


def reached(now: float, moment: float) -> bool:
    """Whether `now` is at or after `moment`, forgiving rounding."""
    return now >= moment - EPSILON
