"""Samples per second and memory of the training loader, beside LeRobot's dataset on the same files."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vla.bench.moving_pictures import FPS, record
from vla.bench.table import Row, report
from vla.data.cache import build_cache
from vla.data.frames import Encoding
from vla.data.loader import Loader, LoaderConfig
from vla.processes import anonymous_mb

PEER = "LeRobotDataset"
HORIZON, BATCH = 50, 64
CODEC = "libsvtav1"
"""LeRobot's own choice."""
LEAST_SECONDS = 3.0
FEW, SHORT, SMALL = 100, 5, 16
"""Where memory is measured: episodes at least, frames of each, side of a picture."""


def bench_loader(
    size: int = 256, episodes: int = 10, length: int = 100, many: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """One process throughout. Two cameras of size x size, recorded by LeRobot as video; chunks of 50 actions.

    many: short episodes with which memory is compared to that of FEW. Returns the benchmark document.
    """
    with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder:
        root = Path(folder) / "dataset"
        record(root, episodes, length, size, seed, CODEC)
        rows = _speed(root, episodes * length, seed)
        rows += _memory(Path(folder), many, seed)
    return report(f"Loading, 2 cameras {size}x{size}, {HORIZON}-step chunks, {episodes * length} frames", rows)


def _speed(root: Path, frames: int, seed: int) -> list[Row]:
    import lerobot.datasets  # noqa: F401  (imports are on nobody's clock)

    began = time.perf_counter()
    read = _peer(root).__getitem__
    order = np.random.default_rng(seed).permutation(frames)
    for index in order:
        read(int(index))
    peer_first = frames / (time.perf_counter() - began)
    peer_warm = _rate(lambda turn: read(int(order[turn % frames])), 1)
    warm, first = [], []
    kinds: dict[str, Encoding] = {"raw": "raw", "JPEG": "jpeg"}
    for name, encoding in kinds.items():
        shutil.rmtree(root / "cache", ignore_errors=True)
        began = time.perf_counter()
        loader = _loader(root, encoding, seed)
        for step in range(round(loader.steps_per_epoch)):
            loader.batch(step)
        rate = round(loader.steps_per_epoch) * BATCH / (time.perf_counter() - began)
        first.append(Row(f"first epoch with decoding, {name}", rate, "samples/s", PEER, peer_first))
        warm.append(Row(f"at random, warm, {name}", _rate(loader.batch, BATCH), "samples/s", PEER, peer_warm))
    return warm + first


def _peer(root: Path) -> Any:
    from lerobot.datasets import LeRobotDataset

    logging.getLogger("lerobot").setLevel(logging.ERROR)
    deltas = {"action": [step / FPS for step in range(HORIZON)]}
    return LeRobotDataset("local/moving", root=root, delta_timestamps=deltas, return_uint8=True)


def _loader(root: Path, encoding: Encoding | None, seed: int) -> Loader:
    return Loader([build_cache(root, encoding=encoding)], LoaderConfig(batch=BATCH, horizon=HORIZON, seed=seed))


def _rate(turn: Callable[[int], Any], samples: int) -> float:
    """Samples per second of turn(0), turn(1), ..., after a few to warm up."""
    for number in range(3):
        turn(number)
    began, number = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < LEAST_SECONDS:
        turn(number)
        number += 1
    return number * samples / spent


def _memory(folder: Path, many: int, seed: int) -> list[Row]:
    """Private memory after an epoch of FEW episodes and of `many`, each in a process of its own.

    The peer, slower by far, reads as many frames of the many as of the few.
    """
    few = folder / "few"
    record(few, FEW, SHORT, SMALL, seed, codec="h264")
    rows = []
    for copies in dict.fromkeys((1, max(1, many // FEW))):
        root = few if copies == 1 else folder / "many"
        if copies > 1:
            _repeat(few, root, copies)
        build_cache(root)
        command = [sys.executable, "-m", "vla.bench.loader"]
        ours, theirs = (
            float(subprocess.run([*command, kind, str(root)], check=True, stdout=subprocess.PIPE).stdout)
            for kind in ("ours", "theirs")
        )
        read = f"{FEW * copies * SHORT} frames read; peer {FEW * SHORT}"
        rows.append(Row(f"memory, {FEW * copies} episodes, {read}", ours, "MB", PEER, theirs))
    return rows


def _repeat(dataset: Path, out: Path, copies: int) -> None:
    """The same episodes `copies` times, as one dataset."""
    import contextlib
    import io

    from lerobot.datasets.aggregate import aggregate_datasets

    with contextlib.redirect_stderr(io.StringIO()):
        aggregate_datasets(
            ["local/moving"] * copies, "local/many", roots=[dataset] * copies, aggr_root=out, concatenate_videos=False
        )


def _epoch_memory(kind: str, root: Path) -> float:
    """Memory of this process (MB), but for pages of files: ours after an epoch, the peer's after FEW * SHORT frames."""
    if kind == "ours":
        loader = _loader(root, None, 0)
        for step in range(round(loader.steps_per_epoch)):
            loader.batch(step)
    else:
        dataset = _peer(root)
        for index in np.random.default_rng(0).permutation(len(dataset))[: FEW * SHORT]:
            dataset[int(index)]
    held = anonymous_mb()
    assert held is not None, "memory can only be told on Linux"
    return held


if __name__ == "__main__":
    print(_epoch_memory(sys.argv[1], Path(sys.argv[2])))
