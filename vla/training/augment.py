"""Light augmentation of S1's images: shifts and colour. Drawn on the CPU from a seed, applied on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class AugmentConfig:
    """shift: pixels either way. contrast, tint: shares either way. brightness: of the full range, either way."""

    shift: int = 4
    contrast: float = 0.2
    brightness: float = 0.08
    tint: float = 0.08


@dataclass(frozen=True)
class Changes:
    """What to do to a batch of images: shifts (down, right) in pixels, then colours * gain + bias, of [0, 1]."""

    shift: Int[Tensor, "B 2"]
    gain: Float[Tensor, "B 3"]
    bias: Float[Tensor, "B 3"]


def draw_changes(rng: np.random.Generator, count: int, config: AugmentConfig) -> Changes:
    """Another change for every image."""
    contrast = rng.uniform(1 - config.contrast, 1 + config.contrast, (count, 1))
    tint = rng.uniform(1 - config.tint, 1 + config.tint, (count, 3))
    brightness = rng.uniform(-config.brightness, config.brightness, (count, 1))
    gain = contrast * tint
    # Contrast turns about middle grey.
    bias = (0.5 - 0.5 * contrast + brightness) * tint
    shift = rng.integers(-config.shift, config.shift + 1, (count, 2))
    return Changes(torch.from_numpy(shift), *(torch.from_numpy(x.astype(np.float32)) for x in (gain, bias)))


def apply_changes(images: UInt8[Tensor, "B H W 3"], changes: Changes) -> Float[Tensor, "B H W 3"]:
    """Floats around [0, 1]. What a shift uncovers repeats the border."""
    height, width = images.shape[1:3]
    rows = torch.arange(height, device=images.device) - changes.shift[:, :1]
    columns = torch.arange(width, device=images.device) - changes.shift[:, 1:]
    which = torch.arange(len(images), device=images.device)[:, None, None]
    shifted = images[which, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]]
    return torch.addcmul(changes.bias[:, None, None], shifted.float(), changes.gain[:, None, None] / 255)
