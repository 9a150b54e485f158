"""The trunk: action tokens that attend to each other and to the memory of one observation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

KeysValues = tuple[Float[Tensor, "B h M d"], Float[Tensor, "B h M d"]]
Past = dict[nn.Module, KeysValues]
"""What the blocks of a causal trunk have read so far; empty before the first tokens, and grown by every pass."""


class Trunk(nn.Module):
    """A pre-norm transformer decoder over at most `positions` action tokens; `causal`: none sees those after it."""

    def __init__(self, positions: int, width: int, layers: int, heads: int, mlp: int, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal
        self.position = nn.Parameter(torch.randn(positions, width) * 0.1)
        self.memory_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp) for _ in range(layers))

    def remember(self, memory: Float[Tensor, "B M W"]) -> list[KeysValues]:
        """Keys and values of an observation, once for however many passes follow (flow takes several)."""
        memory = self.memory_norm(memory)
        return [block.remember(memory) for block in self._blocks()]

    def forward(
        self, tokens: Float[Tensor, "B T W"], remembered: list[KeysValues], past: Past | None = None
    ) -> Float[Tensor, "B T W"]:
        """past: in a causal trunk, of the tokens that these follow on; these are added to it."""
        start = next(iter(past.values()))[0].shape[2] if past else 0
        x = tokens + self.position[start : start + tokens.shape[1]]
        for block, keys_values in zip(self._blocks(), remembered, strict=True):
            x = block(x, keys_values, self.causal, past)
        return x

    def _blocks(self) -> Iterable[Block]:
        return (cast(Block, block) for block in self.blocks)


class Block(nn.Module):
    """Self-attention, cross-attention to the memory, SwiGLU."""

    def __init__(self, width: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.self_out = nn.Linear(width, width, bias=False)
        self.query = nn.Linear(width, width, bias=False)
        self.keys_values = nn.Linear(width, 2 * width, bias=False)
        self.cross_out = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * mlp, bias=False)
        self.down = nn.Linear(mlp, width, bias=False)

    def remember(self, memory: Float[Tensor, "B M W"]) -> KeysValues:
        keys, values = self.keys_values(memory).chunk(2, dim=-1)
        return self._split(keys), self._split(values)

    def forward(
        self, x: Float[Tensor, "B T W"], remembered: KeysValues, causal: bool = False, past: Past | None = None
    ) -> Float[Tensor, "B T W"]:
        query, keys, values = map(self._split, self.qkv(self.norms[0](x)).chunk(3, dim=-1))
        if past is not None:
            if self in past:
                keys, values = (torch.cat(pair, dim=2) for pair in zip(past[self], (keys, values), strict=True))
            past[self] = keys, values
        x = x + self.self_out(attend(query, keys, values, causal))
        x = x + self.cross_out(attend(self._split(self.query(self.norms[1](x))), *remembered))
        gate, up = self.gate_up(self.norms[2](x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)

    def _split(self, x: Float[Tensor, "B T W"]) -> Float[Tensor, "B h T d"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def attend(
    query: Float[Tensor, "B h T d"],
    keys: Float[Tensor, "B h M d"],
    values: Float[Tensor, "B h M d"],
    causal: bool = False,
) -> Float[Tensor, "B T W"]:
    """Plain attention: for sequences this short it trains faster on a CPU than the fused kernels' backward.

    causal: the queries belong to the last T of the M keys, and see none after their own.
    """
    rows, columns = query.shape[2], keys.shape[2]
    visible = None
    if causal and rows > 1:
        visible = torch.ones(rows, columns, dtype=torch.bool, device=query.device).tril(columns - rows)
    if query.is_cuda:
        mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=visible)
    else:
        weights = (query * query.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        if visible is not None:
            weights = weights.masked_fill(~visible, -torch.inf)
        mixed = weights.softmax(dim=-1).to(values.dtype) @ values
    return mixed.transpose(1, 2).flatten(2)
