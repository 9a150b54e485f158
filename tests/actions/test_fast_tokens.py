"""FAST tokens: what the paper's algorithm makes of a chunk, undone exactly but for the rounding."""

import json
import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from vla.actions.bpe import Bpe
from vla.actions.fast import FastTokens
from vla.errors import UserError
from vla.strict import parse, to_plain

H, A = 8, 3


def smooth_chunks(count: int, seed: int, horizon: int = H, size: int = A) -> np.ndarray:
    """Normalised actions that change slowly, and a gripper that is open or closed."""
    rng = np.random.default_rng(seed)
    amount, phase, speed = rng.uniform((0.0, 0.0, 0.0), (1.0, 6.3, 0.4), (count, 1, size, 3)).transpose(3, 0, 1, 2)
    chunks = amount * np.sin(phase + speed * np.arange(horizon)[:, None])
    chunks[..., -1] = np.where(rng.random((count, 1)) < 0.5, -1, 1)
    return chunks.astype(np.float32)


@pytest.fixture(scope="module")
def tokens() -> FastTokens:
    return FastTokens.fit(smooth_chunks(3000, seed=0))


# --- the algorithm of the paper, written as slowly as it reads ------------------------------------------------------


def paper_coefficients(chunk: np.ndarray, scale: float = 10) -> list[int]:
    """DCT-II by its definition, per dimension; scaled, rounded, and read low frequencies first."""
    horizon, size = chunk.shape
    numbers = []
    for frequency in range(horizon):
        weight = math.sqrt((1 if frequency == 0 else 2) / horizon)
        wave = [math.cos(math.pi * (2 * time + 1) * frequency / (2 * horizon)) for time in range(horizon)]
        for dimension in range(size):
            numbers.append(round(scale * weight * sum(wave[t] * float(chunk[t, dimension]) for t in range(horizon))))
    return numbers


def paper_merges(sequences: list[list[int]], merges: int) -> list[tuple[tuple, tuple]]:
    """Byte-pair encoding: again and again the most frequent pair of neighbours becomes one token."""
    texts = [[(number,) for number in sequence] for sequence in sequences]
    found = []
    for _ in range(merges):
        pairs = Counter(pair for text in texts for pair in pairwise(text))
        found.append(max(pairs, key=lambda pair: pairs[pair]))
        texts = [merged(text, found[-1]) for text in texts]
    return found


def merged(text: list[tuple], pair: tuple[tuple, tuple]) -> list[tuple]:
    out: list[tuple] = []
    for token in text:
        if out and (out[-1], token) == pair:
            out[-1] += token
        else:
            out.append(token)
    return out


def test_as_many_tokens_as_the_papers_algorithm_makes() -> None:
    fitted_to, seen = smooth_chunks(300, seed=1), smooth_chunks(100, seed=2)
    ours = FastTokens.fit(fitted_to, vocabulary=256)
    texts = [[(number,) for number in paper_coefficients(chunk)] for chunk in seen]
    for pair in paper_merges(
        [paper_coefficients(chunk) for chunk in fitted_to], len(ours.bpe.tokens) - ours.bpe.symbols
    ):
        texts = [merged(text, pair) for text in texts]
    theirs = sum(map(len, texts))
    assert sum(map(len, ours.encode(seen))) == pytest.approx(theirs, rel=0.02)
    assert theirs < 0.5 * seen.size


def test_coefficients_are_the_papers(tokens) -> None:
    for chunk in smooth_chunks(20, seed=3):
        (said,) = tokens.encode(chunk[None])
        assert (tokens.bpe.expand(np.array(said)) + tokens.low).tolist() == paper_coefficients(chunk)


# --- there and back -------------------------------------------------------------------------------------------------


def test_a_chunk_comes_back_exact_to_rounding(tokens) -> None:
    chunks = smooth_chunks(500, seed=4)
    back = tokens.decode(tokens.encode(chunks))
    assert back.shape == chunks.shape and back.dtype == np.float32
    # Half a step of 1 / scale in each of H orthonormal coefficients.
    assert np.sqrt(np.square(back - chunks).sum(axis=1)).max() <= 0.05 * math.sqrt(H) + 1e-5


def test_what_came_back_is_said_in_the_same_tokens(tokens) -> None:
    said = tokens.encode(smooth_chunks(500, seed=5))
    assert tokens.encode(tokens.decode(said)) == said


def test_an_unseen_large_value_is_clipped_not_lost(tokens) -> None:
    wild = np.random.default_rng(0).choice([-1.5, 1.5], (50, H, A)) * 10
    said = tokens.encode(wild)
    assert {int(tokens.bpe.lengths[sequence].sum()) for sequence in said} == {H * A}
    assert np.isfinite(tokens.decode(said)).all()


def test_chunks_of_holds_take_hardly_any_tokens() -> None:
    still = np.zeros((50, H, A), np.float32)
    tokens = FastTokens.fit(still)
    assert tokens.encode(still[:1]) == [[len(tokens.bpe.tokens) - 1]]
    np.testing.assert_array_equal(tokens.decode(tokens.encode(still)), still)


def test_a_sequence_that_is_no_chunk_is_refused(tokens) -> None:
    (said,) = tokens.encode(smooth_chunks(1, seed=6))
    with pytest.raises(ValueError, match=r"sequence 1 stands for \d+ symbols, a chunk has 24"):
        tokens.decode([said, said[:-1]])
    with pytest.raises(ValueError, match=r"chunks have shape \(4, 3\), not \(8, 3\)"):
        tokens.encode(np.zeros((1, 4, 3)))


# --- fitting, and on disk -------------------------------------------------------------------------------------------


def test_the_same_data_gives_the_same_tokens(tokens) -> None:
    assert FastTokens.fit(smooth_chunks(3000, seed=0)) == tokens
    assert len(tokens.bpe.tokens) == 1024


def test_survives_json(tokens) -> None:
    again = parse(FastTokens, json.loads(json.dumps(to_plain(tokens))), "tokens")
    chunks = smooth_chunks(50, seed=7)
    assert again == tokens and again.encode(chunks) == tokens.encode(chunks)
    np.testing.assert_array_equal(again.decode(tokens.encode(chunks)), tokens.decode(tokens.encode(chunks)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": None}, "tokens: low must be a whole number"),
        ({"scale": 0.0}, "tokens: .*must be above 0"),
        (
            {"bpe": {"symbols": 2, "merges": [[0, 1], [0, 3]]}},
            r"tokens: bpe.merges\[1\] is of tokens 0 and 3, there are 3",
        ),
        ({"bpe": {"symbols": 0}}, "tokens: bpe.symbols is 0"),
        (
            {"bpe": {"symbols": 1, "merges": [[i, i] for i in range(60)]}},
            r"bpe.merges\[16\] makes a token of more than",
        ),
        ({"bpe": {"symbols": 2, "merges": [[0]]}}, r"tokens: bpe.merges\[0\] must have 2 entries"),
    ],
)
def test_damage_is_named(tokens, change, message) -> None:
    with pytest.raises(UserError, match=message):
        parse(FastTokens, to_plain(tokens) | change, "tokens")


def test_a_vocabulary_too_small_for_the_symbols_is_refused() -> None:
    with pytest.raises(ValueError, match="symbols do not fit into a vocabulary of 16"):
        FastTokens.fit(smooth_chunks(100, seed=0), vocabulary=16)


def test_two_merges_may_make_one_token() -> None:
    bpe = Bpe(3, ((0, 1), (1, 2), (3, 2), (0, 4)))
    assert bpe.tokens == ((0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2))
    assert bpe.encode(np.array([[0, 1, 2, 1, 2]])) == [[5, 4]]
    assert bpe.expand(np.array([5, 4])).tolist() == [0, 1, 2, 1, 2]
    assert replace(bpe, merges=()).encode(np.array([[2, 0]])) == [[2, 0]]
