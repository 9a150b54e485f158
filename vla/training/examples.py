"""Examples for S1: frames of cached episodes with the chunk of actions that followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vla.actions.fast import FastTokens
from vla.actions.normalize import Normalizer, check_finite
from vla.data.cache import FrameCache
from vla.data.episode import OTHERWISE
from vla.data.slices import HELD_OUT, chunk_rows, is_held_out, look_back
from vla.errors import UserError
from vla.spec import RobotSpec

TOKENIZED = 20_000
"""Chunks that action tokens are fitted to, at most: seconds of work."""


@dataclass(frozen=True)
class DriverWeights:
    """How often a frame is drawn by who drove, where a recording says so (`vla teleop`), as factors; 0 leaves frames
    out, and their actions out of the chunks of others.

    autonomous: no person did. correction: a person did although the policy was on. failure: of a take that was not kept
    as a success.
    """

    autonomous: float = 1.0
    correction: float = 1.0
    failure: float = 0.0


class Examples:
    """The frames of several caches under one running number; states and actions normalised and held in memory.

    weights: of each cache; its frames are drawn so many times as often as they would be by their number alone.
    drivers: further weights, by who drove. drawn: frames to train on, each counted by its weight.
    Raises UserError if the caches are of different robots, hold values that are not finite, or are too small to hold an
    episode out.
    """

    def __init__(
        self,
        caches: Sequence[FrameCache],
        normalizer: Normalizer,
        weights: Sequence[float] | None = None,
        drivers: DriverWeights | None = None,
    ) -> None:
        self.caches = list(caches)
        self.spec = one_spec(caches)
        _check_finite(caches)
        self.fps = caches[0].fps
        self.normalizer = normalizer
        self.first = np.cumsum([0, *(len(cache) for cache in caches)])
        self.state = np.concatenate([normalizer.state.normalize(cache.state) for cache in caches])
        self.action = np.concatenate([normalizer.action.normalize(cache.action) for cache in caches])
        self.raw_action = np.concatenate([np.asarray(cache.action) for cache in caches])
        executed = np.concatenate([np.asarray(cache.executed) for cache in caches])
        self.executed = normalizer.action.normalize(executed)
        episodes = [(e, first) for cache, first in zip(caches, self.first, strict=False) for e in cache.episodes]
        self.tasks = [episode.task for episode, _ in episodes]
        self.hindsight = [episode.hindsight or episode.task for episode, _ in episodes]
        self.annotated = any(episode.hindsight for episode, _ in episodes)
        lengths = [len(episode) for episode, _ in episodes]
        self.episode = np.repeat(np.arange(len(episodes)), lengths)
        self.start = np.repeat([episode.start + first for episode, first in episodes], lengths)
        self.stop = np.repeat([episode.stop + first for episode, first in episodes], lengths)
        disturbed = np.concatenate([np.asarray(cache.disturbed) > 0 for cache in caches])
        each = np.repeat(weights or [1.0] * len(caches), np.diff(self.first)) * _by_driver(caches, drivers)
        self.foreseen = np.minimum(_until_the_next(disturbed, self.stop, 1), _until_the_next(each == 0, self.stop, 0))
        explained = np.abs(executed - self.raw_action).max(1) > OTHERWISE
        self.told = _until_the_next(disturbed & ~explained, self.stop, 1)
        out = np.concatenate([is_held_out(cache.episode) for cache in caches])
        if not out.any():
            raise UserError(f"training needs at least {HELD_OUT} episodes in a dataset, to hold one out; collect more")
        self.trained, self.held_out = np.flatnonzero(~out & (each > 0)), np.flatnonzero(out & (each > 0))
        for part, frames in (("trained on", self.trained), (f"held out (each {HELD_OUT}th)", self.held_out)):
            if not len(frames):
                raise UserError(
                    f"training: the takes that are {part} are failures, which --failures 0 leaves out, or a policy "
                    "drove them, and --autonomous 0 does; give them a weight, or record more"
                )
        each = each[self.trained]
        self.drawn = float(each.sum())
        self._cumulative: Float[np.ndarray, " n"] | None = np.cumsum(each) if np.ptp(each) > 0 else None

    def __len__(self) -> int:
        return len(self.state)

    def draw(self, rng: np.random.Generator, count: int) -> Int[np.ndarray, " count"]:
        """Frames to train on, by their weight."""
        if self._cumulative is None:
            return rng.choice(self.trained, count)
        return self.trained[np.searchsorted(self._cumulative, rng.random(count) * self._cumulative[-1], side="right")]

    def images(self, frames: Int[np.ndarray, " n"], camera: str) -> UInt8[Tensor, "n H W 3"]:
        which = np.searchsorted(self.first, frames, side="right") - 1
        rows = frames - self.first[which]
        pictures = [self.caches[i].images[camera][row] for i, row in zip(which, rows, strict=True)]
        return torch.from_numpy(np.stack(pictures))

    def prompts(self, frames: Int[np.ndarray, " n"]) -> list[str]:
        """The task of each, as it was recorded."""
        return [self.tasks[i] for i in self.episode[frames]]

    def drawn_prompts(self, frames: Int[np.ndarray, " n"], rng: np.random.Generator, share: float) -> list[str]:
        """The task of each, or with this probability what its annotation says was done (hindsight)."""
        if not share:
            return self.prompts(frames)
        drawn = rng.random(len(frames)) < share
        return [(self.hindsight if new else self.tasks)[i] for i, new in zip(self.episode[frames], drawn, strict=True)]

    def look_back(
        self, frames: Int[np.ndarray, " n"], ages: Float[np.ndarray, " n"], stride: int
    ) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """The frames S2 saw `ages` seconds earlier, within the episode, and how long ago that is exactly."""
        return look_back(frames, self.start[frames], ages, self.fps, stride)

    def chunks(
        self, frames: Int[np.ndarray, " n"], horizon: int, given: Int[np.ndarray, " n"] | None = None
    ) -> tuple[Float[np.ndarray, "n H A"], Bool[np.ndarray, "n H"]]:
        """Normalised actions from each frame on, and which of them are to be learned.

        Not those that answer a disturbance after the frame, nor beyond the episode's end, where it would be a hold.

        given: so many of each chunk's first actions are what was executed. Where that was not what should have been
        done, it tells what the later ones answer: only thus does S1 learn to heed what it is already committed to.
        """
        ahead = np.arange(horizon)
        reached = frames[:, None] + ahead
        rows, taken = chunk_rows(frames, self.stop[frames], horizon)
        chunks = self.action[rows]
        ending = np.flatnonzero(~taken.all(1))
        if len(ending):
            holds = [self.spec.hold_action(self.raw_action[stop - 1]) for stop in self.stop[frames[ending]]]
            hold = self.normalizer.action.normalize(np.stack(holds))
            chunks[ending] = np.where(taken[ending, :, None], chunks[ending], hold[:, None])
        given = np.zeros(len(frames), int) if given is None else given
        chunks = np.where((taken & (ahead < given[:, None]))[..., None], self.executed[rows], chunks)
        begin = np.minimum(frames + given, self.stop[frames] - 1)
        return chunks, reached < np.minimum(self.foreseen[begin], self.told[frames])[:, None]


def _by_driver(caches: Sequence[FrameCache], drivers: DriverWeights | None) -> Float[np.ndarray, " N"]:
    """The weight of each frame by who drove, and by whether the take succeeded; 1 where nobody says."""
    drivers = drivers or DriverWeights()
    person = np.concatenate([np.asarray(cache.person) for cache in caches])
    corrects = np.concatenate([np.asarray(cache.intervention) for cache in caches]) > 0
    failed = np.concatenate([_failed(cache) for cache in caches])
    driven = np.where(person == 0, drivers.autonomous, np.where(corrects, drivers.correction, 1.0))
    return np.where(failed & np.isfinite(person), drivers.failure, 1.0) * driven


def _failed(cache: FrameCache) -> Bool[np.ndarray, " N"]:
    """Whether the frame's episode says whether it succeeded, and did not."""
    starts, lengths = [e.start for e in cache.episodes], [len(e) for e in cache.episodes]
    return np.repeat(np.fmax.reduceat(np.asarray(cache.success), starts) == 0, lengths)


def _until_the_next(marked: Bool[np.ndarray, " N"], stop: Int[np.ndarray, " N"], more: int) -> Int[np.ndarray, " N"]:
    """Up to which row actions are to be learned from each frame: `more` beyond the next marked one, or the end."""
    rows = np.arange(len(marked))
    following = np.minimum.accumulate(np.where(marked, rows + more, len(rows))[::-1])[::-1]
    return np.minimum(following, stop)


def one_spec(caches: Sequence[FrameCache]) -> RobotSpec:
    """The robot all caches are of; UserError with the differing entries if there are two, or two frame rates."""
    first = caches[0]
    for other in caches[1:]:
        differing = first.spec.diff(other.spec, str(other.folder))
        if differing:
            raise UserError(
                f"datasets {first.folder} and {other.folder} are of different robots: {'; '.join(differing)}"
                + ("; if they are two, give each spec a name of its own" if first.spec.name == other.spec.name else "")
            )
        if first.fps != other.fps:
            raise UserError(f"dataset {first.folder} has {first.fps} frames/s, {other.folder} has {other.fps}")
    return first.spec


def _check_finite(caches: Sequence[FrameCache]) -> None:
    for cache in caches:
        for name in ("state", "action", "executed"):
            check_finite(getattr(cache, name), f"dataset {cache.folder}: {name}")


def fit_normalizer(caches: Sequence[FrameCache]) -> Normalizer:
    """Over all frames of all caches; UserError for a value that is not finite."""
    _check_finite(caches)
    return Normalizer.fit(
        np.concatenate([np.asarray(cache.state) for cache in caches]),
        np.concatenate([np.asarray(cache.action) for cache in caches]),
    )


def fit_action_tokens(examples: Examples, horizon: int) -> FastTokens:
    """To chunks of the frames that are trained on; the same every time."""
    frames = examples.trained
    if len(frames) > TOKENIZED:
        frames = np.sort(np.random.default_rng(0).choice(frames, TOKENIZED, replace=False))
    return FastTokens.fit(examples.chunks(frames, horizon)[0])
