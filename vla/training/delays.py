"""How old S1's thoughts are in training, and how many of its actions are already committed.

A thought in use is between S2's delay and delay + period old; S1 is trained over every age it may meet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vla.errors import UserError


@dataclass(frozen=True)
class DelayConfig:
    """Ages are 0 ... max_age seconds, half of them in the first quarter; a share `none` has no thought yet (age NaN).

    The prefix is empty in a share `no_prefix`, else uniform over 1 ... max_prefix actions.
    """

    max_age: float = 2.0
    none: float = 0.05
    max_prefix: int = 8
    no_prefix: float = 0.4

    def __post_init__(self) -> None:
        if self.max_age < 0 or self.max_prefix < 0:
            raise UserError(f"delays: max_age is {self.max_age}, max_prefix {self.max_prefix}; neither may be negative")
        for name in ("none", "no_prefix"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"delays: {name} is {getattr(self, name)}, it is a share from 0 to 1")


def draw_ages(rng: np.random.Generator, count: int, config: DelayConfig) -> Float[np.ndarray, " count"]:
    """Seconds; NaN where there is no thought yet. Most thoughts that S1 meets are young: squares of uniform numbers."""
    ages = config.max_age * rng.random(count) ** 2
    return np.where(rng.random(count) < config.none, np.nan, ages)


def draw_prefixes(rng: np.random.Generator, count: int, config: DelayConfig) -> Int[np.ndarray, " count"]:
    lengths = rng.integers(1, config.max_prefix + 1, count) if config.max_prefix else np.zeros(count, int)
    return np.where(rng.random(count) < config.no_prefix, 0, lengths)
