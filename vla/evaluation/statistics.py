"""Success rates with intervals, and percentiles."""

import math
from collections.abc import Sequence

import numpy as np

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Score interval of a success rate (Wilson 1927): sound at few trials and at the ends; (0, 1) for no trials."""
    if trials == 0:
        return 0.0, 1.0
    rate, spread = successes / trials, z * z / trials
    middle = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials))
    # At 0 and at `trials` successes the exact bound is 0 and 1; rounding must not miss it.
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == trials else min(1.0, middle + half)
    return low, high


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """50th, 95th and 99th percentile; None each if nothing was measured."""
    names = {"p50": 50, "p95": 95, "p99": 99}
    if not len(values):
        return dict.fromkeys(names)
    return {name: float(np.percentile(values, percent)) for name, percent in names.items()}


def success_summary(outcomes: Sequence[bool]) -> dict[str, object]:
    """{"episodes", "success_rate", "ci95": [low, high]}; the rate is None for no episodes."""
    wins = sum(outcomes)
    rate = wins / len(outcomes) if outcomes else None
    return {"episodes": len(outcomes), "success_rate": rate, "ci95": list(wilson(wins, len(outcomes)))}
