"""What S1 sees and feels, as tokens: cameras, state, latents and their age."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vla.conv import ConvStage

CPU_PART = 16
"""Images that go through the stages together on a CPU: what one stage leaves, the next still finds in the cache."""


class CameraEncoder(nn.Module):
    """One camera's image to one token per 16x16 pixels, by strided convolutions, with learned positions."""

    def __init__(self, channels: tuple[int, ...], image_size: tuple[int, int], width: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            ConvStage(inputs, outputs, residual=i == len(channels) - 2)
            for i, (inputs, outputs) in enumerate(zip((3, *channels), channels, strict=False))
        )
        rows, columns = (math.ceil(side / 2 ** len(channels)) for side in image_size)
        self.project = nn.Linear(channels[-1], width)
        self.position = nn.Parameter(torch.randn(rows * columns, width) * 0.1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, images: UInt8[Tensor, "B H W 3"] | Float[Tensor, "B H W 3"]) -> Float[Tensor, "B N W"]:
        """images: uint8, or floats in [0, 1]."""
        parts = (images,) if images.is_cuda else images.split(CPU_PART)
        return self.project(torch.cat([self._tokens(part) for part in parts])) + self.position

    def _tokens(self, images: Tensor) -> Float[Tensor, "B N C"]:
        pixels = to_unit(images)
        # (B, H, W, 3) seen as (B, 3, H, W) is already channels_last: nothing is copied.
        x = ((pixels - 0.5) / 0.25).movedim(-1, 1)
        for stage in self.stages:
            x = stage(x)
        return x.flatten(2).transpose(1, 2)


def to_unit(images: UInt8[Tensor, "*B"] | Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Floats in [0, 1]; those that are floats already stay as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


class StateEncoder(nn.Module):
    """Normalised state (B, S) to one token (B, W), in full precision: bfloat16 would blur positions by millimetres."""

    def __init__(self, state_size: int, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(state_size, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, state: Float[Tensor, "B S"]) -> Float[Tensor, "B W"]:
        with torch.autocast(state.device.type, enabled=False):
            return self.mlp(state.float())


class Sinusoids(nn.Module):
    """Numbers as sines and cosines of `count` periods, from `shortest` to `longest` in their own unit; F = 2 count."""

    frequencies: Tensor

    def __init__(self, count: int, shortest: float, longest: float) -> None:
        super().__init__()
        periods = torch.logspace(math.log10(shortest), math.log10(longest), count)
        self.register_buffer("frequencies", 2 * math.pi / periods, persistent=False)

    def forward(self, values: Float[Tensor, "*D"]) -> Float[Tensor, "*D F"]:
        angles = values.unsqueeze(-1) * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class ThoughtEncoder(nn.Module):
    """S2's latents and their age to K + 1 tokens; the last holds the age and, with `summary`, all latents at once.

    An age of NaN means that there is no thought yet: learned tokens then stand for the latents and the age. Ages above
    `max_age` seconds count as that, since nothing older was trained on.
    """

    def __init__(self, latent_shape: tuple[int, int], width: int, max_age: float, summary: bool) -> None:
        super().__init__()
        count, size = latent_shape
        self.max_age = max_age
        self.norm = nn.LayerNorm(size)
        self.project = nn.Linear(size, width)
        self.sum_up = nn.Linear(count * size, width) if summary else None
        self.slot = nn.Parameter(torch.randn(count, width) * 0.1)
        self.none = nn.Parameter(torch.randn(count + 1, width) * 0.1)
        self.age = nn.Sequential(Sinusoids(16, 0.2, 16.0), nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, latents: Float[Tensor, "B K D"], age: Float[Tensor, " B"]) -> Float[Tensor, "B K+1 W"]:
        none = age.isnan().view(-1, 1, 1)
        aged = self.age(torch.where(age.isnan(), 0.0, age).clamp(0.0, self.max_age)).unsqueeze(1)
        # What stands in the place of a thought that is not there must not matter, not even as NaN.
        latents = self.norm(torch.where(none, 0.0, latents))
        tokens = self.project(latents) + self.slot
        last = torch.zeros_like(aged) if self.sum_up is None else self.sum_up(latents.flatten(1)).unsqueeze(1)
        return torch.where(none, self.none, torch.cat([tokens, last], dim=1) + aged)
