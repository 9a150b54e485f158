"""S2's latents of every frame, computed once: while S1 trains, S2 is frozen and need not look again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from vla import assets
from vla.data.cache import FrameCache
from vla.data.workers import progress_bar
from vla.errors import UserError
from vla.s2.system import SlowSystem
from vla.training.precision import mixed_precision

SAVE_EVERY = 32
"""Batches between two notes of how far we are: what an interruption costs."""


@dataclass(frozen=True)
class Latents:
    """values: float16 (M, K, D), memory-mapped. row: (N,) row of each frame, or of the last one before it with one.

    S2 looked at every stride-th frame of an episode, its first included. seconds: for which it looked, in all calls.
    """

    values: NDArray[np.float16]
    row: Int[np.ndarray, " N"]
    stride: int
    seconds: float


class CachedThoughts:
    """The latents of several caches under one running frame number (`vla.training.examples.Examples`)."""

    def __init__(self, parts: Sequence[Latents]) -> None:
        self.parts = list(parts)
        self.stride = parts[0].stride
        self.first = np.cumsum([0, *(len(part.row) for part in parts)])

    def at(self, frames: Int[np.ndarray, " n"]) -> Float[Tensor, "n K D"]:
        which = np.searchsorted(self.first, frames, side="right") - 1
        found = np.empty((len(frames), *self.parts[0].values.shape[1:]), np.float32)
        for i, part in enumerate(self.parts):
            mine = np.flatnonzero(which == i)
            found[mine] = part.values[part.row[frames[mine] - self.first[i]]]
        return torch.from_numpy(found)


def fingerprint(slow: SlowSystem, cache: FrameCache, stride: int) -> str:
    """Changes with S2's weights or configuration, with the dataset, with the stride."""
    digest = hashlib.sha256(json.dumps([asdict(slow.config), stride]).encode())
    digest.update((cache.folder / "meta.json").read_bytes())
    for name, value in sorted(slow.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.inference_mode()
def compute_latents(slow: SlowSystem, cache: FrameCache, out: Path, stride: int = 1, batch: int = 128) -> Latents:
    """Latents of `cache` under its episodes' tasks, in `out` as `<fingerprint>.npy`; goes on where it was stopped.

    Runs on S2's device. Raises UserError if `out` cannot be written or the dataset lacks a camera S2 looks through.
    """
    missing = [camera for camera in slow.config.cameras if camera not in cache.images]
    if missing:
        raise UserError(f"dataset {cache.folder} has no camera {missing[0]}, which S2 looks through")
    frames = np.concatenate([np.arange(e.start, e.stop, stride) for e in cache.episodes])
    row = np.searchsorted(frames, np.arange(len(cache)), side="right") - 1
    name = fingerprint(slow, cache, stride)
    path, note = out / f"{name}.npy", out / f"{name}.json"
    shape = (len(frames), *slow.latent_shape)
    try:
        out.mkdir(parents=True, exist_ok=True)
        done, seconds = _done(note, path, shape)
        if done < len(frames):
            begin = time.monotonic() - seconds
            values = np.lib.format.open_memmap(path, "r+" if done else "w+", np.float16, None if done else shape)
            with progress_bar(f"S2 reads {cache.folder.parent.name}", len(frames), done) as advance:
                for number, start in enumerate(range(done, len(frames), batch), 1):
                    rows = frames[start : start + batch]
                    values[start : start + len(rows)] = _read(slow, cache, rows).cpu().numpy()
                    advance(len(rows))
                    if number % SAVE_EVERY == 0 or start + batch >= len(frames):
                        values.flush()
                        seconds = time.monotonic() - begin
                        told = {"done": start + len(rows), "seconds": seconds}
                        assets.write_file(note, json.dumps(told), "latents")
    except OSError as error:
        raise UserError(f"latents: cannot write to {out}: {error.strerror or error}") from None
    return Latents(np.load(path, mmap_mode="r"), row, stride, seconds)


def _read(slow: SlowSystem, cache: FrameCache, frames: Int[np.ndarray, " n"]) -> Float[Tensor, "n K D"]:
    views = np.stack([cache.images[camera][frames] for camera in slow.config.cameras], axis=1)
    prompts = [cache.episodes[i].task for i in cache.episode[frames]]
    with mixed_precision(slow.device.type):
        return slow(torch.from_numpy(views), prompts).latents


def _done(note: Path, path: Path, shape: tuple[int, ...]) -> tuple[int, float]:
    """Rows that are already there, and the seconds that they took."""
    try:
        known: Mapping[str, Any] = json.loads(note.read_text())
        there = np.load(path, mmap_mode="r").shape == shape
        return (int(known["done"]), float(known.get("seconds", 0.0))) if there else (0, 0.0)
    except (FileNotFoundError, ValueError, KeyError):
        return 0, 0.0
