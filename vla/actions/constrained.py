"""Decoding tokens under the constraint that they stand for exactly so many symbols.

Every symbol is also a token (`vla.actions.bpe.Bpe`), so whatever number of symbols remains can be filled. A token may
therefore follow exactly if it is no longer than what remains: one that is longer cannot be part of any whole chunk,
and after one that is not, tokens of single symbols complete it. Nothing else is forbidden, so every encoding can be
said; and each token shortens what remains, so after `symbols` tokens at most there is a whole chunk, whatever the
logits.

There is no end token to predict. A sequence ends where nothing remains, which is counted, not learned.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

END = -1
"""No token: what fills a batch behind the end of a sequence."""


def allowed(lengths: Int[Tensor, " V"], remaining: Int[Tensor, " B"]) -> Bool[Tensor, "B V"]:
    """Which tokens may follow where so many symbols remain; lengths: symbols of each token."""
    return lengths <= remaining.unsqueeze(-1)


def choose(logits: Float[Tensor, "B V"], lengths: Int[Tensor, " V"], remaining: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """The likeliest allowed token, END where nothing remains. Logits that are no numbers count as 0."""
    # Finite, so that even a token of logit -inf comes before one that is not allowed.
    likely = logits.float().nan_to_num().masked_fill(~allowed(lengths, remaining), -torch.inf)
    return torch.where(remaining > 0, likely.argmax(-1), END)


def decode(
    logits: Float[Tensor, "B V"],
    following: Callable[[Int[Tensor, " B"], Int[Tensor, " B"]], Float[Tensor, "B V"]],
    lengths: Int[Tensor, " V"],
    symbols: int,
) -> Int[Tensor, "B T"]:
    """Greedy decoding of a batch; rows end with as many END as they are shorter than the longest.

    logits: for the first token. following: given the tokens just chosen (END where a row has ended) and how many
    symbols remain after them, the logits for the next ones. lengths: symbols of each token; some must be 1.
    """
    remaining = torch.full(logits.shape[:1], symbols, device=logits.device)
    chosen = []
    while True:
        tokens = choose(logits, lengths, remaining)
        remaining = remaining - torch.where(tokens == END, 0, lengths[tokens.clamp(min=0)])
        chosen.append(tokens)
        if not remaining.any():
            return torch.stack(chosen, dim=1)
        logits = following(tokens, remaining)
