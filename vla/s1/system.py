"""S1: cameras, state, aged latents and committed actions in, a chunk of actions out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from vla.actions.fast import FastTokens
from vla.errors import UserError
from vla.s1.encoder import CameraEncoder, StateEncoder, ThoughtEncoder, to_unit
from vla.s1.heads import HEADS, Decode, make_head
from vla.s1.trunk import Past, Trunk

Images = Mapping[str, UInt8[Tensor, "B H W 3"]]


@dataclass(frozen=True)
class FastConfig:
    """Shape of S1.

    image_size: height and width of every camera in pixels; others are resized to it. horizon: actions in a chunk.
    head: what makes actions of what the trunk has understood (`vla.s1.heads`).
    max_age: seconds; latents older than this count as this old (no older ones were trained on). summary: add a linear
    summary of all latents to every action token, beside the tokens the trunk attends to; it then follows them sooner.
    flow_steps: Euler steps from noise to actions, 1 to 10, of head `flow`.
    """

    cameras: tuple[str, ...] = ("front", "wrist")
    image_size: tuple[int, int] = (96, 96)
    channels: tuple[int, ...] = (32, 64, 96, 192)
    horizon: int = 16
    head: Literal["l1", "flow", "bins", "fast"] = "l1"
    width: int = 192
    layers: int = 4
    heads: int = 4
    mlp: int = 384
    max_age: float = 2.0
    summary: bool = False
    flow_steps: int = 5

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise UserError(f"S1 config: head is {self.head!r}, there are: {', '.join(HEADS)}")
        if self.heads < 1 or self.width % self.heads:
            raise UserError(f"S1 config: width {self.width} is not a multiple of heads {self.heads}")
        if not 1 <= self.flow_steps <= 10:
            raise UserError(f"S1 config: flow_steps is {self.flow_steps}, it must be 1 to 10")


class FastSystem(nn.Module):
    """Built for one state size, action size and shape (K, D) of latents; for head `fast` also for its action tokens.

    Raises UserError if the action tokens are missing, of other chunks, or given to another head.
    """

    def __init__(
        self,
        config: FastConfig,
        state_size: int,
        action_size: int,
        latent_shape: tuple[int, int],
        action_tokens: FastTokens | None = None,
    ) -> None:
        super().__init__()
        self.config, self.action_tokens = config, action_tokens
        self.state_size, self.action_size, self.latent_shape = state_size, action_size, latent_shape
        width = config.width
        self.cameras = nn.ModuleDict(
            {name: CameraEncoder(config.channels, config.image_size, width) for name in config.cameras}
        )
        self.state = StateEncoder(state_size, width)
        self.thought = ThoughtEncoder(latent_shape, width, config.max_age, config.summary)
        kind = HEADS[config.head]
        positions = kind.positions(action_size, config.horizon)
        self.trunk = Trunk(positions, width, config.layers, config.heads, config.mlp, kind.causal)
        self.head = make_head(config.head, action_size, config.horizon, width, action_tokens, config.flow_steps)

    def loss(
        self,
        images: Images,
        state: Float[Tensor, "B S"],
        latents: Float[Tensor, "B K D"],
        age: Float[Tensor, " B"],
        actions: Float[Tensor, "B H A"],
        prefix_len: Int[Tensor, " B"],
        valid: Bool[Tensor, "B H"],
    ) -> Tensor:
        """Scalar loss over the actions that are valid and not in the prefix.

        state, actions: normalised. age: seconds, NaN for "no thought yet". valid: False beyond the episode's end.
        """
        decode = self._decoder(images, state, latents, age)
        return self.head.loss(decode, actions, self._in_prefix(prefix_len), valid)

    @torch.no_grad()
    def act(
        self,
        images: Images,
        state: Float[Tensor, "B S"],
        latents: Float[Tensor, "B K D"],
        age: Float[Tensor, " B"],
        prefix: Float[Tensor, "B H A"],
        prefix_len: Int[Tensor, " B"],
    ) -> Float[Tensor, "B H A"]:
        """A chunk of normalised actions, row 0 for the moment of the images; its first prefix_len rows are given."""
        return self.head.act(self._decoder(images, state, latents, age), prefix, self._in_prefix(prefix_len))

    def _decoder(self, images: Images, state: Tensor, latents: Tensor, age: Tensor) -> Decode:
        felt = self.state(state).unsqueeze(1)
        seen = [encoder(self._resized(images[name])) for name, encoder in self.cameras.items()]
        thought = self.thought(latents, age)
        remembered = self.trunk.remember(torch.cat([*seen, felt, thought], dim=1))
        # Also added to every action token: the trunk need not learn to look for them first.
        known = felt + thought[:, -1:] if self.config.summary else felt

        def decode(tokens: Tensor, past: Past | None = None) -> Tensor:
            return self.trunk(tokens + known, remembered, past)

        return decode

    def pixels(self, images: Images) -> dict[str, Float[Tensor, "B H W 3"]]:
        """The images of S1's cameras at its own size, as floats in [0, 1]."""
        return {name: to_unit(self._resized(images[name])) for name in self.cameras}

    def _resized(self, images: Tensor) -> Tensor:
        if tuple(images.shape[1:3]) == self.config.image_size:
            return images
        pixels = to_unit(images).movedim(-1, 1)
        size = self.config.image_size
        return nn.functional.interpolate(pixels, size, mode="bilinear", antialias=True).movedim(1, -1)

    def _in_prefix(self, prefix_len: Int[Tensor, " B"]) -> Bool[Tensor, "B H"]:
        return torch.arange(self.config.horizon, device=prefix_len.device) < prefix_len.unsqueeze(1)
