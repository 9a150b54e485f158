"""The convolutional stage that both S2's tower and S1's cameras are stacked from."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ConvStage(nn.Module):
    """Halve the image, widen the channels; with `residual`, look once more at the new resolution.

    groups: of both group norms; by default what `norm_groups` says.
    """

    def __init__(self, inputs: int, outputs: int, residual: bool, groups: int | None = None) -> None:
        super().__init__()
        groups = groups or norm_groups(outputs)
        self.down = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm = nn.GroupNorm(groups, outputs)
        self.look = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False) if residual else None
        self.look_norm = nn.GroupNorm(groups, outputs) if residual else None

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H/2 W/2"]:
        x = F.silu(self.norm(self.down(x)))
        if self.look is not None and self.look_norm is not None:
            x = x + F.silu(self.look_norm(self.look(x)))
        return x


def norm_groups(channels: int) -> int:
    """Sixteen channels a group or more: with fewer, PyTorch's channels_last kernel on a CPU is ten times slower."""
    return max(groups for groups in range(1, max(1, channels // 16) + 1) if channels % groups == 0)
