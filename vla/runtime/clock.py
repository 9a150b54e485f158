"""Simulated time: it moves only when the simulator does."""

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


def reached(now: float, moment: float) -> bool:
    """Whether `now` is at or after `moment`, forgiving rounding."""
    return now >= moment - EPSILON
