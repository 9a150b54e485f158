"""Which frames of an episode belong to a sample: the actions that follow, and what was seen some time before."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

HELD_OUT = 20
"""Of so many episodes the last is never trained on."""


def is_held_out(episode: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Whether episodes of these numbers are kept from training, to measure on."""
    return np.asarray(episode) % HELD_OUT == HELD_OUT - 1


def chunk_rows(
    frames: Int[np.ndarray, " n"], stops: Int[np.ndarray, " n"], horizon: int
) -> tuple[Int[np.ndarray, "n H"], Bool[np.ndarray, "n H"]]:
    """The frames of each chunk of actions, and which are within the episode; the last one stands for those beyond.

    stops: one past the last frame of each frame's episode. LeRobot fills chunks in the same way.
    """
    rows = frames[:, None] + np.arange(horizon)
    valid = rows < stops[:, None]
    return np.minimum(rows, stops[:, None] - 1), valid


def look_back(
    frames: Int[np.ndarray, " n"],
    starts: Int[np.ndarray, " n"],
    ages: Float[np.ndarray, " n"],
    fps: float | Float[np.ndarray, " n"],
    stride: int = 1,
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The frame S2 saw that long ago, and how long ago exactly.

    starts: first frame of each frame's episode, before which nothing was seen. stride: S2 saw only every stride-th
    frame of an episode. Where the age is NaN the frame is the current one and the age stays NaN.
    """
    steps = np.round(np.nan_to_num(ages) * fps).astype(int)
    offset = np.maximum(frames - steps - starts, 0)
    sources = starts + offset // stride * stride
    return sources, np.where(np.isnan(ages), np.nan, (frames - sources) / fps)
