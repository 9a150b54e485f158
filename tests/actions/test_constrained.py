"""Constrained decoding: every sequence is a chunk, every chunk can be said, and nothing else is forbidden."""

import numpy as np
import pytest
import torch

from vla.actions.bpe import Bpe
from vla.actions.constrained import END, allowed, choose, decode
from vla.actions.fast import FastTokens

H, A = 6, 4


@pytest.fixture(scope="module")
def chunks() -> np.ndarray:
    start, speed = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 2000, 1, A))
    return (start + speed * np.linspace(-1, 1, H)[:, None]).astype(np.float32)


@pytest.fixture(scope="module")
def tokens(chunks) -> FastTokens:
    return FastTokens.fit(chunks, vocabulary=512)


def said(tokens: FastTokens, logits: torch.Tensor) -> list[list[int]]:
    """What is decoded where the logits (T, B, V) are known beforehand; the last ones stay."""
    steps = iter(logits[1:])
    last = [logits[0]]

    def following(chosen: torch.Tensor, remaining: torch.Tensor) -> torch.Tensor:
        last[0] = next(steps, last[0])
        return last[0]

    lengths = torch.from_numpy(tokens.bpe.lengths)
    return [row[row != END].tolist() for row in decode(logits[0], following, lengths, tokens.symbols)]


def test_ten_thousand_random_decodes_are_ten_thousand_chunks(tokens) -> None:
    torch.manual_seed(0)
    size = len(tokens.bpe.tokens)
    # Some prefer long tokens, some short ones: both ends of the constraint are met.
    taste = torch.randn(10_000, 1) * torch.from_numpy(tokens.bpe.lengths)
    sequences = said(tokens, torch.stack([torch.randn(10_000, size) * 3 + taste for _ in range(4)]))
    decoded = tokens.decode(sequences)  # raises for a sequence that is no chunk
    assert decoded.shape == (10_000, H, A) and np.isfinite(decoded).all()
    counts = [len(sequence) for sequence in sequences]
    assert min(counts) < 4 and max(counts) == H * A


def test_logits_that_are_no_numbers_still_make_a_chunk(tokens) -> None:
    size = len(tokens.bpe.tokens)
    for value in (torch.nan, torch.inf, -torch.inf, 0.0):
        logits = torch.full((1, 2, size), value)
        logits[0, 0, ::3] = -torch.inf
        assert tokens.decode(said(tokens, logits)).shape == (2, H, A)


def test_the_logits_of_a_true_sequence_return_its_chunk(tokens, chunks) -> None:
    true = tokens.encode(chunks[:300])
    longest = max(map(len, true))
    torch.manual_seed(0)
    logits = torch.rand(longest, len(true), len(tokens.bpe.tokens))
    for row, sequence in enumerate(true):
        logits[torch.arange(len(sequence)), row, torch.tensor(sequence)] += 1
    assert said(tokens, logits) == true
    np.testing.assert_array_equal(tokens.decode(said(tokens, logits)), tokens.decode(true))


def test_no_true_sequence_is_ever_forbidden(tokens, chunks) -> None:
    lengths = torch.from_numpy(tokens.bpe.lengths)
    for sequence in tokens.encode(chunks):
        symbols = lengths[sequence]
        remaining = tokens.symbols - symbols.cumsum(0) + symbols
        assert allowed(lengths, remaining)[torch.arange(len(sequence)), sequence].all()


def test_exactly_those_tokens_are_allowed_after_which_a_chunk_can_be_completed() -> None:
    """Against an exhaustive search of what numbers of symbols some tokens add up to."""
    bpe = Bpe(2, ((0, 1), (2, 2), (3, 2), (4, 4)))
    lengths = torch.from_numpy(bpe.lengths)
    assert lengths.tolist() == [1, 1, 2, 4, 6, 12]
    reachable = {0}
    for total in range(1, 31):
        if any(total - int(length) in reachable for length in lengths):
            reachable.add(total)
    for remaining in range(31):
        completes = [remaining - int(length) in reachable for length in lengths]
        assert allowed(lengths, torch.tensor([remaining]))[0].tolist() == completes


def test_a_sequence_ends_where_nothing_remains_and_not_before() -> None:
    lengths = torch.tensor([1, 2])
    chosen = choose(torch.tensor([[0.0, 9.0]] * 3), lengths, torch.tensor([2, 1, 0]))
    assert chosen.tolist() == [1, 0, END]
    batch = decode(
        torch.tensor([[0.0, 1.0], [1.0, 0.0]]), lambda *_: torch.tensor([[0.0, 1.0], [1.0, 0.0]]), lengths, 3
    )
    assert batch.tolist() == [[1, 0, END], [0, 0, 0]]
