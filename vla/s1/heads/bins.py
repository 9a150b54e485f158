"""Classification into bins, 256 per dimension (RT-2, OpenVLA), but of the whole chunk in one pass (OpenVLA-OFT).

A distribution rather than a value: it may have several peaks. Precise to half a bin, 1/256 of the normalised range.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.actions.bins import BINS, bin_centres, to_bins
from vla.s1.heads.base import ActionHead, Decode, masked_mean


class BinsHead(ActionHead):
    """Predicts the bin of each action; the token of an action that is not given is a learned question."""

    def __init__(self, action_size: int, horizon: int, width: int) -> None:
        super().__init__(action_size, horizon, width, outputs=action_size * BINS)
        self.asked = nn.Parameter(torch.randn(width) * 0.1)

    def loss(
        self,
        decode: Decode,
        actions: Float[Tensor, "B H A"],
        prefix: Bool[Tensor, "B H"],
        valid: Bool[Tensor, "B H"],
    ) -> Tensor:
        logits = self._logits(decode, actions, prefix)
        surprise = F.cross_entropy(logits.movedim(-1, 1), to_bins(actions), reduction="none")
        return masked_mean(surprise, valid & ~prefix)

    def act(
        self, decode: Decode, actions: Float[Tensor, "B H A"], prefix: Bool[Tensor, "B H"]
    ) -> Float[Tensor, "B H A"]:
        likeliest = bin_centres(self._logits(decode, actions, prefix).argmax(-1))
        return torch.where(prefix.unsqueeze(-1), actions, likeliest.to(actions.dtype))

    def _logits(self, decode: Decode, actions: Tensor, prefix: Tensor) -> Float[Tensor, "B H A 256"]:
        tokens = torch.where(prefix.unsqueeze(-1), self.read(actions) + self.given, self.asked)
        return self._read_out(decode(tokens)).unflatten(-1, (self.action_size, BINS))
