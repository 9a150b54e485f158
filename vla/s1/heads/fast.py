"""FAST tokens, one after the other (pi0-FAST, arXiv 2501.09747), under a constraint that makes every sequence a chunk.

What the trunk reads, causally: one token per action of the chunk, which holds the action where it is given; a start;
then the tokens said so far, each with the coefficient it has come to. The DCT mixes all rows of a chunk, so the tokens
describe the prefix too, which the model has only to copy; the rows it makes of it are replaced by those given. Rows
beyond the episode's end cannot be left out either: they are learned as the hold they are filled with. A chunk with any
other action that is not to be learned is to be left out as a whole (`vla.training.stage_s1`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vla.actions import constrained
from vla.actions.constrained import END
from vla.actions.fast import FastTokens
from vla.ranks import across
from vla.s1.heads.base import ActionHead, Decode
from vla.s1.trunk import Past


class FastHead(ActionHead):
    """Predicts the next action token; decodes greedily. action_tokens: fitted to chunks (horizon, action_size)."""

    causal = True
    lengths: Tensor

    def __init__(self, action_size: int, horizon: int, width: int, action_tokens: FastTokens) -> None:
        super().__init__(action_size, horizon, width, outputs=len(action_tokens.bpe.tokens))
        self.action_tokens = action_tokens
        self.asked = nn.Parameter(torch.randn(width) * 0.1)
        self.start = nn.Parameter(torch.randn(width) * 0.1)
        self.said = nn.Parameter(torch.randn(len(action_tokens.bpe.tokens), width) * 0.1)
        self.reached = nn.Parameter(torch.randn(action_tokens.symbols, width) * 0.1)
        self.register_buffer("lengths", torch.from_numpy(action_tokens.bpe.lengths), persistent=False)

    @staticmethod
    def positions(action_size: int, horizon: int) -> int:
        """The given actions, the start, and all tokens but the last, if every one stands for a single symbol."""
        return horizon + horizon * action_size

    def loss(
        self,
        decode: Decode,
        actions: Float[Tensor, "B H A"],
        prefix: Bool[Tensor, "B H"],
        valid: Bool[Tensor, "B H"],
    ) -> Tensor:
        """Mean over the tokens of the chunks that ask for anything beyond their prefix."""
        wanted = self._encode(actions)
        lengths = torch.where(wanted == END, 0, self.lengths[wanted.clamp(min=0)])
        follow = self._follow(wanted[:, :-1], self.action_tokens.symbols - lengths.cumsum(1)[:, :-1])
        heard = decode(torch.cat([self._begin(actions, prefix), follow], dim=1))
        logits = self._read_out(heard[:, self.horizon :])
        surprise = F.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=END, reduction="none")
        counted = (wanted != END) & (valid & ~prefix).any(1, keepdim=True)
        return (surprise * counted).sum() / across(counted.sum()).clamp(min=1)

    def act(
        self, decode: Decode, actions: Float[Tensor, "B H A"], prefix: Bool[Tensor, "B H"]
    ) -> Float[Tensor, "B H A"]:
        past: Past = {}

        def hear(tokens: Float[Tensor, "B T W"]) -> Float[Tensor, "B V"]:
            return self._read_out(decode(tokens, past)[:, -1])

        def following(chosen: Int[Tensor, " B"], remaining: Int[Tensor, " B"]) -> Float[Tensor, "B V"]:
            return hear(self._follow(chosen[:, None], remaining[:, None]))

        first = hear(self._begin(actions, prefix))
        said = constrained.decode(first, following, self.lengths, self.action_tokens.symbols).cpu()
        chunks = self.action_tokens.decode([row[row != END].tolist() for row in said])
        return torch.where(prefix.unsqueeze(-1), actions, torch.from_numpy(chunks).to(actions))

    def _encode(self, actions: Float[Tensor, "B H A"]) -> Int[Tensor, "B T"]:
        """Tokens, filled up with END."""
        sequences = self.action_tokens.encode(actions.detach().float().cpu().numpy())
        padded = pad_sequence([torch.tensor(tokens) for tokens in sequences], batch_first=True, padding_value=END)
        return padded.to(actions.device)

    def _begin(self, actions: Tensor, prefix: Tensor) -> Float[Tensor, "B H+1 W"]:
        given = torch.where(prefix.unsqueeze(-1), self.read(actions) + self.given, self.asked)
        return torch.cat([given, self.start.expand(len(actions), 1, -1)], dim=1)

    def _follow(self, tokens: Int[Tensor, "B T"], remaining: Int[Tensor, "B T"]) -> Float[Tensor, "B T W"]:
        """What is heard after each token; behind the end of a sequence it does not matter."""
        reached = (self.action_tokens.symbols - remaining).clamp(max=self.action_tokens.symbols - 1)
        return self.said[tokens.clamp(min=0)] + self.reached[reached]
