"""The interface of the action heads, and what they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.ranks import across
from vla.s1.trunk import Past


class Decode(Protocol):
    """The trunk with one observation in its memory: action tokens in, action tokens out. past: see `Trunk.forward`."""

    def __call__(self, tokens: Float[Tensor, "B T W"], past: Past | None = None) -> Float[Tensor, "B T W"]: ...


class ActionHead(nn.Module, ABC):
    """Turns a chunk of normalised actions into tokens for the trunk, and what it makes of them into actions.

    Actions that are already committed when the chunk takes effect (the prefix) are given clean, marked as given,
    and left out of the loss (training-time real-time chunking).

    causal: tokens must not see those after them. outputs: numbers read from every token the trunk returns, by default
    one per action.
    """

    causal = False

    def __init__(self, action_size: int, horizon: int, width: int, outputs: int | None = None) -> None:
        super().__init__()
        self.action_size = action_size
        self.horizon = horizon
        self.read = nn.Linear(action_size, width)
        self.given = nn.Parameter(torch.randn(width) * 0.1)
        self.norm = nn.LayerNorm(width)
        self.write = nn.Linear(width, outputs or action_size)
        nn.init.normal_(self.write.weight, std=0.02)
        nn.init.zeros_(self.write.bias)

    @staticmethod
    def positions(action_size: int, horizon: int) -> int:
        """How many tokens the trunk gets at most."""
        return horizon

    @abstractmethod
    def loss(
        self,
        decode: Decode,
        actions: Float[Tensor, "B H A"],
        prefix: Bool[Tensor, "B H"],
        valid: Bool[Tensor, "B H"],
    ) -> Tensor:
        """Scalar over the actions that are valid and not in the prefix."""

    @abstractmethod
    def act(
        self, decode: Decode, actions: Float[Tensor, "B H A"], prefix: Bool[Tensor, "B H"]
    ) -> Float[Tensor, "B H A"]:
        """A chunk; where `prefix` is set it repeats `actions`, whose other rows are ignored."""

    def _read_out(self, tokens: Float[Tensor, "B T W"]) -> Float[Tensor, "B T O"]:
        # In full precision: bfloat16 resolves a millimetre or two of a metre, and these are the robot's targets.
        with torch.autocast(tokens.device.type, enabled=False):
            return self.write(self.norm(tokens.float()))


def masked_mean(errors: Float[Tensor, "B H A"], mask: Bool[Tensor, "B H"]) -> Tensor:
    weight = mask.unsqueeze(-1).to(errors.dtype)
    return (errors * weight).sum() / across(weight.sum() * errors.shape[-1]).clamp(min=1)
