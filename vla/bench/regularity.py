"""How regularly something happened, such as a command: what every benchmark of a loop tells."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def regularity(times: Float[np.ndarray, " N"], rate_hz: float) -> dict[tuple[str, str], float]:
    """By name and unit. times: s; the error is the periods' deviation from what they should be, the gap the longest."""
    periods = 1e3 * np.diff(times)
    p50, p99 = np.percentile(np.abs(periods - 1e3 / rate_hz), [50, 99])
    return {
        ("commands", "1/s"): 1e3 / float(periods.mean()),
        ("period error p50", "ms"): float(p50),
        ("period error p99", "ms"): float(p99),
        ("largest gap", "ms"): float(periods.max()),
    }
