"""Statistics of vectors that are gathered in pieces and merged: count, min, max, mean, std and quantiles per dimension.

Quantiles come from KLL sketches (Karnin, Lang, Liberty, 2016; Apache DataSketches). Up to about K values they are
exact; beyond, the value given for quantile q has, with 99 % confidence, a rank within RANK_ERROR of q: the 1st
percentile is between the 0.93rd and the 1.07th. Sketches draw random numbers, so two runs may differ by as much.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vla.data.lerobot_v3 import DatasetV3, as_numbers
from vla.extras import need

K = 4096
"""Size of a sketch: some 50 kB per dimension."""
RANK_ERROR = 0.00071
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
"""Those that LeRobot keeps, under its names."""


class Statistics:
    """Of vectors of `size` numbers. Values that are not finite are left out, dimension by dimension."""

    def __init__(self, size: int) -> None:
        from datasketches import vector_of_kll_floats_sketches

        self.size = size
        self.count = np.zeros(size, np.int64)
        self._mean, self._squares = np.zeros(size), np.zeros(size)  # mean, and summed squared distance from it
        self._low, self._high = np.full(size, np.inf), np.full(size, -np.inf)
        self._sketches = vector_of_kll_floats_sketches(K, size)

    def update(self, values: Float[np.ndarray, "N D"]) -> None:
        """Raises ValueError if the vectors are of another size."""
        values = np.asarray(values)
        if values.ndim != 2 or values.shape[1] != self.size:
            raise ValueError(f"statistics are of {self.size} dimensions, got shape {values.shape}")
        finite = np.isfinite(values)
        count = finite.sum(0)
        exact = np.where(finite, values, 0).astype(np.float64)
        mean = exact.sum(0) / np.maximum(count, 1)
        squares = (np.where(finite, exact - mean, 0) ** 2).sum(0)
        self._low = np.minimum(self._low, np.where(finite, values, np.inf).min(0, initial=np.inf))
        self._high = np.maximum(self._high, np.where(finite, values, -np.inf).max(0, initial=-np.inf))
        self._add_moments(count, mean, squares)
        # A sketch ignores NaN, but would take infinity for a number.
        self._sketches.update(np.where(finite, values, np.nan).astype(np.float32))

    def merge(self, other: Statistics) -> None:
        """Take in what `other` has seen, as if it had been seen here. Raises ValueError if the sizes differ."""
        if other.size != self.size:
            raise ValueError(f"statistics of {self.size} and of {other.size} dimensions cannot be merged")
        self._low, self._high = np.minimum(self._low, other._low), np.maximum(self._high, other._high)
        self._add_moments(other.count, other._mean, other._squares)
        self._sketches.merge(other._sketches)

    def _add_moments(self, count: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> None:
        """The parallel algorithm of Chan, Golub and LeVeque (1979)."""
        total = np.maximum(self.count + count, 1)
        apart = mean - self._mean
        self._squares += squares + apart**2 * self.count * count / total
        self._mean += apart * count / total
        self.count = self.count + count

    @property
    def mean(self) -> Float[np.ndarray, " D"]:
        return np.where(self.count > 0, self._mean, np.nan)

    @property
    def std(self) -> Float[np.ndarray, " D"]:
        return np.sqrt(np.where(self.count > 0, self._squares / np.maximum(self.count, 1), np.nan))

    @property
    def min(self) -> Float[np.ndarray, " D"]:
        return np.where(self.count > 0, self._low, np.nan)

    @property
    def max(self) -> Float[np.ndarray, " D"]:
        return np.where(self.count > 0, self._high, np.nan)

    def quantile(self, q: float) -> Float[np.ndarray, " D"]:
        """Per dimension, between the two nearest values as `numpy.quantile`; NaN where nothing was seen."""
        found = np.full(self.size, np.nan)
        for i in np.flatnonzero(self.count):
            n = int(self.count[i])
            place = q * (n - 1)
            ranks = (np.array([np.floor(place), np.ceil(place)]) + 0.5) / n
            low, high = self._sketches.get_quantiles(ranks, int(i))[0].astype(float)
            found[i] = low + (high - low) * (place % 1)
        return found

    def to_dict(self) -> dict[str, list[float]]:
        """Lists of D numbers under count, min, max, mean, std and the names of QUANTILES."""
        numbers: dict[str, np.ndarray] = {
            "count": self.count,
            **{name: getattr(self, name) for name in ("min", "max", "mean", "std")},
            **{name: self.quantile(q) for name, q in QUANTILES.items()},
        }
        return {name: values.tolist() for name, values in numbers.items()}


def of_dataset(root: str | Path) -> dict[str, Statistics]:
    """Of every vector of real numbers in a LeRobot dataset, under its key. Raises UserError for a damaged dataset."""
    need("data", "pyarrow", "datasketches")
    dataset = DatasetV3(root)
    vectors = dataset.vectors()
    statistics = {key: Statistics(size) for key, size in vectors.items()}
    for _, columns in dataset.columns(list(vectors)):
        for key, size in vectors.items():
            statistics[key].update(as_numbers(columns[key]).reshape(-1, size))
    return statistics


def correct_stats(root: Path) -> None:
    """Put the dataset's own numbers into its `meta/stats.json`.

    LeRobot joins episodes by averaging their quantiles: the 99th percentile of something that is rare is then far off.
    Statistics of pictures stay as they are.
    """
    file = root / "meta" / "stats.json"
    known: dict[str, Mapping[str, Any]] = json.loads(file.read_text())
    for key, statistics in of_dataset(root).items():
        numbers = statistics.to_dict()
        known[key] = {**numbers, "count": [int(statistics.count.max(initial=0))]}
    file.write_text(json.dumps(known, indent=4))
