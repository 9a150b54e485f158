"""Uniform bins over [-1, 1]: an action as one of 256 classes per dimension.

RT-2 (arXiv 2307.15818), and over the 1st to 99th percentile OpenVLA (arXiv 2406.09246).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

BINS = 256


def to_bins(values: Float[Tensor, "*D"], count: int = BINS) -> Int[Tensor, "*D"]:
    """Index of the bin, 0 ... count - 1, of normalised values. What lies outside [-1, 1] falls into the end bins.

    Bin i covers -1 + 2 i / count up to, but not including, where bin i + 1 begins; 1 itself is in the last one.
    """
    return ((values.clamp(-1, 1) + 1) * (count / 2)).long().clamp(max=count - 1)


def bin_centres(bins: Int[Tensor, "*D"], count: int = BINS) -> Float[Tensor, "*D"]:
    """The normalised value in the middle of each bin, within 1 / count of every value in it."""
    return (2 * bins.to(torch.get_default_dtype()) + 1) / count - 1
