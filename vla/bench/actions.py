"""FAST action tokens, ours beside the paper's algorithm written plainly, on how the tabletop's experts move.

Fitted to some episodes, measured on others: tokens per chunk, and chunks encoded and decoded per second on one core.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.fft import dct, idct
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from vla.actions.fast import SCALE, VOCABULARY, FastTokens
from vla.actions.normalize import Quantiles
from vla.bench.table import Row, report
from vla.data.attempts import expert_maker
from vla.data.workers import progress_bar
from vla.errors import UserError
from vla.robots.gym_sim import find_environment, make_robot

EPISODES, HELD_OUT = 40, 4
"""Of so many episodes every fourth is kept out of the fit and measured on."""
HORIZON, REPEATS = 16, 5


class PlainFast:
    """The algorithm of arXiv 2501.09747 as a reader would write it, chunk by chunk, with scipy and tokenizers.

    Coefficients are clipped to those it was fitted to, as ours are: it would lose the others.
    """

    def __init__(self, chunks: Float[np.ndarray, "N H A"]) -> None:
        self.shape = chunks.shape[1:]
        numbers = [self._coefficients(chunk) for chunk in chunks]
        self.low, self.high = int(np.min(numbers)), int(np.max(numbers))
        self.tokenizer = Tokenizer(BPE())
        trainer = BpeTrainer(
            vocab_size=VOCABULARY,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=[chr(number) for number in range(self.high - self.low + 1)],
        )
        self.tokenizer.train_from_iterator((self._text(row) for row in numbers), trainer)

    def encode(self, chunk: Float[np.ndarray, "H A"]) -> list[int]:
        return self.tokenizer.encode(self._text(self._coefficients(chunk))).ids

    def decode(self, tokens: list[int]) -> Float[np.ndarray, "H A"]:
        text = "".join(self.tokenizer.id_to_token(token) for token in tokens)
        numbers = np.array([ord(character) + self.low for character in text])
        return idct(numbers.reshape(self.shape) / SCALE, axis=0, norm="ortho")

    def _coefficients(self, chunk: Float[np.ndarray, "H A"]) -> np.ndarray:
        return np.round(SCALE * dct(chunk, axis=0, norm="ortho")).astype(int).flatten()

    def _text(self, numbers: np.ndarray) -> str:
        return "".join(chr(number - self.low) for number in numbers.clip(self.low, self.high))


def bench_actions(env: str, seed: int, episodes: int = EPISODES) -> dict[str, Any]:
    """Play `episodes` episodes from `seed` on, without pictures, and measure; returns the benchmark document.

    Raises UserError if there is no such environment, it cannot do without pictures, or the episodes are too few.
    """
    if episodes < HELD_OUT:
        raise UserError(f"bench actions: {episodes} episodes leave none to measure on; give {HELD_OUT} or more")
    fitted_to, seen = _chunks(env, seed, episodes)
    ours, plain = FastTokens.fit(fitted_to), PlainFast(fitted_to)
    # In parts, one a run: what a tokenizer has seen before it remembers.
    parts = np.array_split(seen, REPEATS)
    encode = _rates(parts, ours.encode, lambda chunks: [plain.encode(chunk) for chunk in chunks])
    said, plainly_said = ours.encode(seen), [plain.encode(chunk) for chunk in seen]
    numbers = np.array_split(np.arange(len(seen)), REPEATS)
    decode = _rates(
        numbers,
        lambda part: ours.decode([said[number] for number in part]),
        lambda part: [plain.decode(plainly_said[number]) for number in part],
    )
    count, peer = float(np.mean([len(tokens) for tokens in said])), "scipy + tokenizers"
    rows = [
        Row("tokens per chunk", count, "tokens", peer, float(np.mean([len(tokens) for tokens in plainly_said]))),
        Row("tokens per chunk", count, "tokens", "one bin per action", float(ours.symbols)),
        Row("encode, one core", encode[0], "chunks/s", peer, encode[1]),
        Row("decode, one core", decode[0], "chunks/s", peer, decode[1]),
    ]
    return report(f"FAST tokens of {len(seen)} chunks of {HORIZON} actions, {env}", rows)


def _chunks(env: str, seed: int, episodes: int) -> tuple[Float[np.ndarray, "N H A"], Float[np.ndarray, "M H A"]]:
    """Normalised chunks, to fit to and to measure on: all that lie within an episode."""
    make_expert = expert_maker(find_environment(env))
    played = []
    with make_robot(env, render=False) as robot, progress_bar("experts", episodes) as advance:
        for number in range(episodes):
            played.append(_play(robot.environment, make_expert, seed + number))
            advance(1)
    sets = [played[number] for number in range(episodes) if (number + 1) % HELD_OUT], played[HELD_OUT - 1 :: HELD_OUT]
    quantiles = Quantiles.fit(np.concatenate(sets[0]), clip=1.5)
    fitted_to, seen = (np.concatenate([_windows(quantiles.normalize(actions)) for actions in part]) for part in sets)
    return fitted_to, seen


def _play(world: Any, make_expert: Callable[..., Any], seed: int) -> Float[np.ndarray, "T A"]:
    """What the expert would do at every step of an episode; its hand is less sure, as in demonstrations."""
    world.reset(seed=seed)
    expert = make_expert(world, np.random.default_rng(seed))
    actions = []
    for _ in range(world._max_episode_steps):
        actions.append(expert.act())
        _, _, terminated, truncated, _ = world.step(expert.perturb(actions[-1]))
        if terminated or truncated:
            break
    return np.stack(actions)


def _windows(actions: Float[np.ndarray, "T A"]) -> Float[np.ndarray, "N H A"]:
    if len(actions) < HORIZON:
        return np.empty((0, HORIZON, actions.shape[1]), actions.dtype)
    return np.lib.stride_tricks.sliding_window_view(actions, HORIZON, axis=0).swapaxes(1, 2)


def _rates(
    parts: list[np.ndarray], ours: Callable[[np.ndarray], object], peer: Callable[[np.ndarray], object]
) -> tuple[float, float]:
    """Chunks per second of both on one core: medians over the parts, which they take in turn."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        for work in (ours, peer):
            work(parts[0][:1])
        pairs = [(_rate(ours, part), _rate(peer, part)) for part in parts]
    finally:
        os.sched_setaffinity(0, cores)
    fast, plain = np.median(pairs, axis=0)
    return float(fast), float(plain)


def _rate(work: Callable[[np.ndarray], object], part: np.ndarray) -> float:
    begin = time.perf_counter()
    work(part)
    return len(part) / (time.perf_counter() - begin)
