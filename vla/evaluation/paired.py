"""What two runs over the same seeds say about each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vla.evaluation.statistics import Z95


@dataclass(frozen=True)
class PairedDifference:
    """Success of one run minus that of another on the same seeds, in [-1, 1], with its 95 % interval.

    won, lost: episodes that only the one, or only the other, has done.
    """

    value: float
    low: float
    high: float
    won: int
    lost: int


def paired_difference(ours: Sequence[bool], theirs: Sequence[bool]) -> PairedDifference:
    """The difference of two paired proportions with the adjusted Wald interval of Bonett and Price (2012, eq. 6).

    Raises ValueError unless both have the same, positive number of episodes.
    """
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"paired runs have {len(ours)} and {len(theirs)} episodes")
    count = len(ours)
    won = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    lost = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    p, q = (won + 1) / (count + 2), (lost + 1) / (count + 2)
    half = Z95 * math.sqrt((p + q - (p - q) ** 2) / (count + 2))
    return PairedDifference((won - lost) / count, max(-1.0, p - q - half), min(1.0, p - q + half), won, lost)
