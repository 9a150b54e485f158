"""Batches of samples from one or several cached datasets: pictures and state now, the actions that follow, and, for S2,
pictures of some time ago.

The batch of a step depends on the datasets, the configuration and the step alone. So any number of workers gives the
same batches in the same order, ranks share an epoch without talking, and a run goes on from nothing but its step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vla.actions.normalize import Normalizer
from vla.data.cache import FrameCache
from vla.data.order import MixedOrder
from vla.data.slices import chunk_rows, look_back
from vla.errors import UserError

DrawAges = Callable[[np.random.Generator, int], Float[np.ndarray, " n"]]
"""How many seconds ago S2 looked, for so many samples; NaN: not yet."""


@dataclass(frozen=True)
class LoaderConfig:
    """batch: samples in a step of one rank. horizon: actions in a chunk. cameras: those of the picture now, by default
    every one that all datasets have. slow_cameras: those S2 looks through; stride: it does so every stride-th frame.
    size: (height, width) that pictures are brought to. normalize: state and action by their own dataset's statistics.
    """

    batch: int = 64
    horizon: int = 16
    cameras: tuple[str, ...] = ()
    slow_cameras: tuple[str, ...] = ()
    stride: int = 1
    size: tuple[int, int] | None = None
    normalize: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch", "horizon", "stride"):
            if getattr(self, name) < 1:
                raise UserError(f"loader config: {name} is {getattr(self, name)}, it must be at least 1")


@dataclass(frozen=True)
class Batch:
    """dataset: which one each sample is from; frame: which of its frames. valid: the action is within the episode; the
    last action stands for those beyond, as LeRobot has it. Narrower states and actions of a mixture end in zeros.
    seen: what S2 saw `age` seconds ago; age is NaN where it has not looked yet.
    """

    step: int
    dataset: Int[Tensor, " B"]
    frame: Int[Tensor, " B"]
    images: Mapping[str, UInt8[Tensor, "B H W 3"]]
    state: Float[Tensor, "B S"]
    action: Float[Tensor, "B H A"]
    valid: Bool[Tensor, "B H"]
    task: list[str]
    age: Float[Tensor, " B"]
    seen: Mapping[str, UInt8[Tensor, "B H W 3"]] = field(default_factory=dict)


class Loader:
    """Samples of `caches`, drawn in the proportions of `weights` (by default that of their frames).

    draw_ages: with slow_cameras, how long ago S2 looked; 0 by default. rank, ranks: this process of so many that train
    together; all of them pass the same arguments. Raises UserError for datasets that cannot make up one batch.
    """

    def __init__(
        self,
        caches: Sequence[FrameCache],
        config: LoaderConfig,
        weights: Sequence[float] | None = None,
        draw_ages: DrawAges | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if not 0 <= rank < ranks:
            raise ValueError(f"rank {rank} of {ranks}")
        self.caches, self.config, self.draw_ages = tuple(caches), config, draw_ages
        self.rank, self.ranks = rank, ranks
        lengths = tuple(len(cache) for cache in caches)
        self.order = MixedOrder(lengths, tuple(map(float, weights or lengths)), config.seed)
        self.cameras = config.cameras or _shared(caches)
        self.sizes = {camera: _size(caches, camera, config.size) for camera in (*self.cameras, *config.slow_cameras)}
        self.state_size = max(cache.state.shape[1] for cache in caches)
        self.action_size = max(cache.action.shape[1] for cache in caches)
        self.normalizers = [Normalizer.from_statistics(cache.stats) for cache in caches] if config.normalize else None
        self._starts = [np.array([episode.start for episode in cache.episodes]) for cache in caches]

    def batch(self, step: int) -> Batch:
        """The batch of a step, 0, 1, 2 and so on without an end."""
        config = self.config
        first = (step * self.ranks + self.rank) * config.batch
        which, frames = self.order.at(np.arange(first, first + config.batch))
        starts, stops, fps = np.empty_like(frames), np.empty_like(frames), np.empty(len(frames))
        tasks = [""] * len(frames)
        state = np.zeros((len(frames), self.state_size), np.float32)
        action = np.zeros((len(frames), config.horizon, self.action_size), np.float32)
        valid = np.zeros((len(frames), config.horizon), bool)
        for i in np.unique(which):
            cache, mine = self.caches[i], np.flatnonzero(which == i)
            episodes = [cache.episodes[k] for k in np.searchsorted(self._starts[i], frames[mine], side="right") - 1]
            starts[mine], stops[mine] = [one.start for one in episodes], [one.stop for one in episodes]
            fps[mine] = cache.fps
            for place, one in zip(mine, episodes, strict=True):
                tasks[place] = one.task
            rows, valid[mine] = chunk_rows(frames[mine], stops[mine], config.horizon)
            now, chunk = cache.state[frames[mine]], cache.action[rows]
            if self.normalizers:
                now = self.normalizers[i].state.normalize(now)
                chunk = self.normalizers[i].action.normalize(chunk)
            state[mine, : now.shape[-1]], action[mine, :, : chunk.shape[-1]] = now, chunk
        rng = np.random.default_rng((config.seed, step, self.rank))
        ages = self.draw_ages(rng, len(frames)) if self.draw_ages else np.zeros(len(frames))
        sources, ages = look_back(frames, starts, ages, fps, config.stride)
        return Batch(
            step=step,
            dataset=torch.from_numpy(which),
            frame=torch.from_numpy(frames),
            images={camera: self._pictures(camera, which, frames) for camera in self.cameras},
            state=torch.from_numpy(state),
            action=torch.from_numpy(action),
            valid=torch.from_numpy(valid),
            task=tasks,
            age=torch.from_numpy(ages.astype(np.float32)),
            seen={camera: self._pictures(camera, which, sources) for camera in config.slow_cameras},
        )

    def batches(self, start: int = 0, workers: int = 0, prefetch: int = 2) -> Iterator[Batch]:
        """Those from step `start` on, without an end. workers: processes that read ahead, `prefetch` batches each."""
        yield from DataLoader(
            _Steps(self),
            batch_size=None,
            sampler=_From(start),
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            generator=torch.Generator(),  # or it would draw from the one that training depends on
        )

    @property
    def steps_per_epoch(self) -> float:
        return len(self.order) / (self.config.batch * self.ranks)

    def state(self, step: int) -> dict[str, Any]:
        """What a run that goes on at `step` has to remember."""
        epoch, position = divmod(step * self.config.batch * self.ranks, len(self.order))
        return {"step": step, "epoch": epoch, "position": position, "order": self._fingerprint()}

    def resume(self, state: Mapping[str, Any]) -> int:
        """The step to go on at. Raises UserError if the order is another: of other data, weights, batch or ranks."""
        if state.get("order") != self._fingerprint():
            raise UserError(
                "loader: the order of samples differs from that of the interrupted run; its datasets, weights, batch "
                "size, number of ranks, seed or loader configuration have changed"
            )
        return int(state["step"])

    def _fingerprint(self) -> str:
        data = [cache.meta.get("source") for cache in self.caches]
        what = [data, asdict(self.order), asdict(self.config), self.ranks]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]

    def _pictures(
        self, camera: str, which: Int[np.ndarray, " n"], frames: Int[np.ndarray, " n"]
    ) -> UInt8[Tensor, "n H W 3"]:
        height, width = self.sizes[camera]
        pictures = np.empty((len(frames), height, width, 3), np.uint8)
        sources = [cache.images[camera] for cache in self.caches]
        for picture, i, frame in zip(pictures, which.tolist(), frames.tolist(), strict=True):
            found = sources[i][frame]
            if found.shape != picture.shape:
                found = cv2.resize(np.asarray(found), (width, height), interpolation=cv2.INTER_AREA)
            picture[:] = found
        return torch.from_numpy(pictures)


class _Steps(Dataset[Batch]):
    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __getitem__(self, step: int) -> Batch:
        return self.loader.batch(step)


class _From:
    """start, start + 1, ... for ever, each time it is asked."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        step = self.start
        while True:
            yield step
            step += 1


def _shared(caches: Sequence[FrameCache]) -> tuple[str, ...]:
    return tuple(camera for camera in caches[0].cameras if all(camera in cache.images for cache in caches))


def _size(caches: Sequence[FrameCache], camera: str, wanted: tuple[int, int] | None) -> tuple[int, int]:
    for cache in caches:
        if camera not in cache.images:
            raise UserError(f"loader: {cache.folder} has no camera {camera}; it has {', '.join(cache.cameras)}")
    sizes = {str(cache.folder): tuple(cache.images[camera].shape[1:3]) for cache in caches}
    if wanted is None and len(set(sizes.values())) > 1:
        listed = ", ".join(f"{folder} {height}x{width}" for folder, (height, width) in sizes.items())
        raise UserError(f"loader: pictures of camera {camera} differ in size ({listed}); give one to bring them to")
    height, width = wanted or next(iter(sizes.values()))
    return height, width
