"""Parallel regression under an L1 loss (OpenVLA-OFT, arXiv 2502.19645): the whole chunk in one pass."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.s1.heads.base import ActionHead, Decode, masked_mean


class L1Head(ActionHead):
    """Predicts the median of each action; the token of an action that is not given is a learned question."""

    def __init__(self, action_size: int, horizon: int, width: int) -> None:
        super().__init__(action_size, horizon, width)
        self.asked = nn.Parameter(torch.randn(width) * 0.1)

    def loss(
        self,
        decode: Decode,
        actions: Float[Tensor, "B H A"],
        prefix: Bool[Tensor, "B H"],
        valid: Bool[Tensor, "B H"],
    ) -> Tensor:
        predicted = self._predict(decode, actions, prefix)
        return masked_mean((predicted - actions).abs(), valid & ~prefix)

    def act(
        self, decode: Decode, actions: Float[Tensor, "B H A"], prefix: Bool[Tensor, "B H"]
    ) -> Float[Tensor, "B H A"]:
        return torch.where(prefix.unsqueeze(-1), actions, self._predict(decode, actions, prefix))

    def _predict(self, decode: Decode, actions: Tensor, prefix: Tensor) -> Float[Tensor, "B H A"]:
        tokens = torch.where(prefix.unsqueeze(-1), self.read(actions) + self.given, self.asked)
        return self._read_out(decode(tokens))
