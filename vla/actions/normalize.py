"""Between robot units and the [-1, 1] a model works in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from vla.errors import UserError

CONSTANT = 1e-4
"""A dimension that spans less (rad, m or 1 per step) is noise around a constant, not something to learn."""
STATE_CLIP, ACTION_CLIP = 3.0, 1.5
"""A state may leave the data's range a little further than an action."""


@dataclass(frozen=True)
class Quantiles:
    """1st and 99th percentile per dimension, mapped to -1 and 1 (OpenVLA, sec. 3.2).

    low, high: (D,) in robot units. clip: normalised values are kept within +-clip; beyond the percentiles the
    mapping goes on linearly, so that rare large values survive. A dimension that is constant but for less than 1 % of
    its values is mapped by its least and its greatest; one that is always constant maps to 0, and back to its value.
    """

    low: Float[np.ndarray, " D"]
    high: Float[np.ndarray, " D"]
    clip: float

    @classmethod
    def fit(cls, values: Float[np.ndarray, "N D"], clip: float) -> Quantiles:
        values = np.asarray(values, np.float32)
        low, high = np.quantile(values, (0.01, 0.99), axis=0)
        rare = high - low < CONSTANT
        low, high = np.where(rare, values.min(0), low), np.where(rare, values.max(0), high)
        return cls(low.astype(np.float32), high.astype(np.float32), clip)

    @property
    def size(self) -> int:
        return len(self.low)

    @property
    def _middle(self) -> Float[np.ndarray, " D"]:
        return (self.low + self.high) / 2

    @property
    def _half(self) -> Float[np.ndarray, " D"]:
        return (self.high - self.low) / 2

    def normalize(self, values: Float[np.ndarray, "... D"]) -> Float[np.ndarray, "... D"]:
        constant = self._half < CONSTANT / 2
        scaled = (values - self._middle) / np.where(constant, 1, self._half)
        return np.clip(np.where(constant, 0, scaled), -self.clip, self.clip).astype(np.float32)

    def denormalize(self, values: Float[np.ndarray, "... D"]) -> Float[np.ndarray, "... D"]:
        half = np.where(self._half < CONSTANT / 2, 0, self._half)
        return (np.clip(values, -self.clip, self.clip) * half + self._middle).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        return {"q01": self.low.tolist(), "q99": self.high.tolist(), "clip": self.clip}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> Quantiles:
        """UserError names `where` and what is wrong."""
        try:
            low, high = (np.asarray(data[key], np.float32) for key in ("q01", "q99"))
            clip = float(data["clip"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{where}: needs lists q01 and q99 and a number clip ({error!r})") from None
        if low.ndim != 1 or low.shape != high.shape or not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise UserError(f"{where}: q01 and q99 must be finite lists of one length, are {low.shape}, {high.shape}")
        return cls(low, high, clip)


def check_finite(values: Float[np.ndarray, "N D"], what: str) -> None:
    """UserError names the first entry of `what` that is not finite: a single one would make all that is learned NaN."""
    frames, entries = np.nonzero(~np.isfinite(values))
    if len(frames):
        first, entry = frames[0], entries[0]
        more = f" ({len(frames)} such values)" if len(frames) > 1 else ""
        where = f"{what}[{entry}] is {values[first, entry]} in frame {first}{more}"
        raise UserError(f"{where}; vla data doctor says in which episodes, to be left out")


@dataclass(frozen=True)
class Normalizer:
    """State and action of one policy."""

    state: Quantiles
    action: Quantiles

    @classmethod
    def fit(cls, states: Float[np.ndarray, "N S"], actions: Float[np.ndarray, "N A"]) -> Normalizer:
        """Raises UserError for a value that is not finite."""
        check_finite(states, "state")
        check_finite(actions, "action")
        return cls(Quantiles.fit(states, clip=STATE_CLIP), Quantiles.fit(actions, clip=ACTION_CLIP))

    @classmethod
    def from_statistics(cls, stats: Mapping[str, Mapping[str, list[float]]]) -> Normalizer:
        """stats: "state", "action" -> q01, q99, as a training cache keeps them."""
        clips = {"state": STATE_CLIP, "action": ACTION_CLIP}
        return cls(*(Quantiles.from_dict({**stats[key], "clip": clip}, key) for key, clip in clips.items()))

    def to_dict(self) -> dict[str, Any]:
        return {"state": self.state.to_dict(), "action": self.action.to_dict()}

    @classmethod
    def from_dict(cls, data: Any, where: str = "normalization") -> Normalizer:
        if not isinstance(data, Mapping) or set(data) != {"state", "action"}:
            raise UserError(f"{where}: must hold state and action, nothing else")
        return cls(*(Quantiles.from_dict(data[key], f"{where}: {key}") for key in ("state", "action")))
