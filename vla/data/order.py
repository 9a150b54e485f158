"""In which order frames are drawn: a function of (seed, position) alone, at any position, in memory that does not grow.

Any process can so compute any part of the order: workers, ranks and a run that goes on agree without a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

BLOCK = 1 << 16
"""Draws in which every dataset has its exact share, to one draw."""
SPAN = 1 << 12
"""Draws worked out at once."""
ROUNDS = 4


def permuted(places: Int[np.ndarray, " n"], size: int, key: tuple[int, ...]) -> Int[np.ndarray, " n"]:
    """Where a pseudo-random permutation of 0, ..., size - 1 takes `places`; key chooses the permutation.

    A Feistel network on the next power of four, walked until it is back inside (Black and Rogaway, 2002).
    """
    half = np.uint64(max(1, (int(size - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64)
    values = np.asarray(places, np.uint64).copy()
    outside: NDArray[np.bool_] = np.ones(len(values), bool)
    while outside.any():
        left, right = values[outside] >> half, values[outside] & mask
        for k in keys:
            left, right = right, left ^ (_mixed(right + k) & mask)
        values[outside] = (left << half) | right
        outside = values >= size
    return values.astype(np.int64)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood, 2014); wraps around."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class MixedOrder:
    """An endless order over datasets of `sizes` frames, drawn in the proportions of `weights`.

    Each BLOCK draws hold every dataset's share, rounded to one draw, in shuffled order. Within a dataset, draws go
    through a new permutation of all its frames each time round: none is seen twice before all were seen once.
    Raises ValueError for a size or weight that is not above 0.
    """

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    seed: int

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.weights) or not self.sizes or min(self.sizes) < 1 or not min(self.weights) > 0:
            raise ValueError(f"an order needs sizes and weights above 0, got {self.sizes} and {self.weights}")

    def __len__(self) -> int:
        """Draws in an epoch: as many as there are frames. With one dataset each is seen exactly once in it."""
        return sum(self.sizes)

    def at(self, places: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Which dataset, and which of its frames, at each position of the order."""
        found = np.empty((2, len(places)), np.int64)
        spans = places // SPAN
        for span in np.unique(spans):
            here = spans == span
            found[:, here] = _drawn(self, int(span))[:, places[here] % SPAN]
        return found[0], found[1]

    @property
    def quotas(self) -> Int[np.ndarray, " D"]:
        """Draws from each dataset in a block."""
        return rounded(np.asarray(self.weights) / sum(self.weights) * BLOCK)


@lru_cache(4)
def _drawn(order: MixedOrder, span: int) -> Int[np.ndarray, "2 SPAN"]:
    """Dataset and frame of SPAN draws: a batch alone would pay the overhead of the permutation for itself."""
    block, first = divmod(span * SPAN, BLOCK)
    datasets, ranks = (values[first : first + SPAN] for values in _shuffled(order, block))
    draws = block * order.quotas[datasets] + ranks
    frames = np.empty_like(draws)
    for i in np.unique(datasets):
        mine = np.flatnonzero(datasets == i)
        rounds, inside = np.divmod(draws[mine], order.sizes[i])
        for time in np.unique(rounds):
            same = rounds == time
            frames[mine[same]] = permuted(inside[same], order.sizes[i], (order.seed, int(i), int(time)))
    return np.stack([datasets, frames])


@lru_cache(2)
def _shuffled(order: MixedOrder, block: int) -> Int[np.ndarray, "2 BLOCK"]:
    """The dataset of each draw of a block, and how many draws from that dataset precede it there."""
    quotas = order.quotas
    datasets = np.repeat(np.arange(len(quotas)), quotas)
    if len(quotas) > 1:
        np.random.default_rng((order.seed, block, len(quotas))).shuffle(datasets)
    ranks = np.empty(BLOCK, np.int64)
    ranks[np.argsort(datasets, kind="stable")] = np.concatenate([np.arange(quota) for quota in quotas])
    return np.stack([datasets, ranks])


def rounded(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers above 0 of the same sum, the largest remainders rounded up."""
    quotas = np.maximum(np.floor(shares), 1).astype(np.int64)
    missing = round(shares.sum()) - int(quotas.sum())
    if missing >= 0:
        quotas[np.argsort(quotas - shares, kind="stable")[:missing]] += 1
    else:  # many tiny weights were raised to 1
        quotas[np.argmax(quotas)] += missing
    return quotas
