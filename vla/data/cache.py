"""The decoded form of an episode dataset: arrays on disk that training reads at random, at memory speed.

A LeRobot dataset is decoded once, file by file, into `<dataset>/cache/`: the pictures of every camera, states and
actions, and which frames make up which episode. Opening a cache needs numpy and OpenCV; building one pyarrow and av.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla import assets
from vla.data.annotations import FILE, check_annotations, read_annotations
from vla.data.frames import Encoding, Pictures, open_pictures
from vla.data.lerobot_v3 import DatasetV3, read_info
from vla.errors import UserError
from vla.spec import RobotSpec

VERSION = 1
COLUMNS = {"state": "observation.state", "action": "action", "episode": "episode_index"}
EXECUTED = "executed"
"""A column that a dataset or an older cache may lack: the actions were executed then."""
LABELS = {
    "progress": (),
    "target_pixel": (2,),
    "goal_pixel": (2,),
    "disturbed": (),
    "person": (),
    "intervention": (),
    "success": (),
}
"""Columns a dataset or an older cache may lack: NaN throughout then."""
LABEL_COLUMNS = {**{name: name for name in LABELS}, "person": "driver", "success": "next.success"}
OF_TAKES = ("person", "success")
"""Labels that older caches lack and takes have."""
SPEC = "robot_spec.yaml"
SMALL = 2**25
"""Bytes up to which a file of numbers is told by its contents."""


@dataclass(frozen=True)
class CachedEpisode:
    """Frames start, ..., stop - 1 of the cache. subtasks: (start, stop, text), counted from the episode's start.

    hindsight: the instruction of its annotation (`vla.data.annotations`), "" if there is none.
    """

    start: int
    stop: int
    task: str
    subtasks: tuple[tuple[int, int, str], ...] = ()
    hindsight: str = ""

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class FrameCache:
    """All frames of a dataset, one after the other; arrays are read-only memory maps.

    images: camera -> uint8 (N, H, W, 3) RGB, kept raw or as JPEG. state: float32 (N, S); action: float32 (N, A), in
    the spec's units. episode: int32 (N,). progress: float32 (N,); target_pixel, goal_pixel: float32 (N, 2), (u, v) in
    [0, 1] of the front image; disturbed: float32 (N,), 1 where what followed was not the action's doing
    (`vla.data.episode.Frame`); person: float32 (N,), 1 where a person drove, and intervention: where one did although a
    policy was on; success: float32 (N,), 1 where the task is done; these seven are NaN where unknown. executed:
    float32 (N, A), what was done in the action's stead.
    meta: what `meta.json` says.
    stats: "state", "action" -> min, max, mean, std, q01, q99, ... lists. robot: None if the dataset has no spec.
    Handed to another process, it is opened there anew.
    """

    folder: Path
    meta: Mapping[str, Any]
    robot: RobotSpec | None
    images: Mapping[str, Pictures]
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    executed: NDArray[np.float32]
    episode: NDArray[np.int32]
    progress: NDArray[np.float32]
    target_pixel: NDArray[np.float32]
    goal_pixel: NDArray[np.float32]
    disturbed: NDArray[np.float32]
    person: NDArray[np.float32]
    intervention: NDArray[np.float32]
    success: NDArray[np.float32]
    episodes: tuple[CachedEpisode, ...]
    stats: Mapping[str, Mapping[str, list[float]]]

    @classmethod
    def open(cls, path: str | Path) -> FrameCache:
        """The cache at `path`, or of the dataset there; UserError if there is none or it is damaged."""
        folder = Path(path)
        if not (folder / "meta.json").is_file():
            folder = folder / "cache"
        if not (folder / "meta.json").is_file():
            raise UserError(f"training cache: {path} holds none and is no dataset with one; use vla data cache")
        try:
            meta = json.loads((folder / "meta.json").read_text())
            if meta["version"] != VERSION:
                raise UserError(
                    f"training cache: {folder} is of version {meta['version']}, not {VERSION}; build it again"
                )
            encoding, sizes = meta.get("encoding", "raw"), meta.get("sizes", {})
            images = {name: open_pictures(folder, name, encoding, sizes.get(name)) for name in meta["cameras"]}
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in COLUMNS}
            arrays |= {name: _label(folder, name, len(arrays["episode"])) for name in LABELS}
            file = folder / f"{EXECUTED}.npy"
            arrays[EXECUTED] = np.load(file, mmap_mode="r") if file.is_file() else arrays["action"]
            said = read_annotations(folder / FILE)
            episodes = tuple(
                CachedEpisode(
                    e["start"],
                    e["stop"],
                    e["task"],
                    tuple((a, b, text) for a, b, text in e["subtasks"]),
                    said[i].instruction if i in said and said[i].frames == e["stop"] - e["start"] else "",
                )
                for i, e in enumerate(meta["episodes"])
            )
            stats = json.loads((folder / "stats.json").read_text())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"training cache: {folder} is damaged ({error}); delete it to build it again") from None
        lengths = {len(array) for array in (*arrays.values(), *images.values())}
        if lengths != {episodes[-1].stop if episodes else 0}:
            raise UserError(f"training cache: the arrays in {folder} differ in length; delete it to build it again")
        robot = RobotSpec.load(folder / SPEC) if (folder / SPEC).is_file() else None
        return cls(folder=folder, meta=meta, robot=robot, images=images, episodes=episodes, stats=stats, **arrays)

    @property
    def spec(self) -> RobotSpec:
        """UserError if the dataset had none: what needs one cannot guess it."""
        if self.robot is None:
            raise UserError(
                f"dataset {self.folder.parent}: no meta/{SPEC}; draft one with vla spec init {self.folder.parent}"
            )
        return self.robot

    @property
    def fps(self) -> float:
        return float(self.meta["fps"])

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(self.images)

    @property
    def front(self) -> Pictures:
        return self.images["front"]

    @property
    def wrist(self) -> Pictures:
        return self.images["wrist"]

    def __len__(self) -> int:
        return len(self.state)

    def __reduce__(self) -> tuple[Any, ...]:
        return FrameCache.open, (self.folder,)


def _label(folder: Path, name: str, frames: int) -> NDArray[np.float32]:
    file = folder / f"{name}.npy"
    return np.load(file, mmap_mode="r") if file.is_file() else np.full((frames, *LABELS[name]), np.nan, np.float32)


def build_cache(
    dataset: str | Path, out: str | Path | None = None, budget: int | None = None, encoding: Encoding | None = None
) -> FrameCache:
    """Decode `dataset` into `out` (default `<dataset>/cache`), or open what is there if it still fits.

    budget: bytes its pictures may take, half of what is free on the disk by default. encoding: how pictures are kept;
    by default raw if that is within the budget, else JPEG. Whole or not at all: it is built beside its place and
    renamed. Raises UserError if `dataset` is no LeRobot v3 dataset, does not agree with its `meta/robot_spec.yaml`, or
    will not fit.
    """
    from vla.data.decode import decode_dataset

    root = Path(dataset).resolve()
    folder = Path(out).resolve() if out else root / "cache"
    source = source_of(root)
    if (folder / "meta.json").is_file():
        cache = FrameCache.open(folder)
        takes = LABEL_COLUMNS["person"] in read_info(root)["features"]
        labelled = not takes or all((folder / f"{name}.npy").is_file() for name in OF_TAKES)
        fits = labelled and cache.meta["source"] == source and encoding in (None, cache.meta.get("encoding", "raw"))
        small = budget is None or _picture_bytes(cache) <= budget
        if fits and small and (renewed := _with_spec(cache, root)) is not None:
            return _with_annotations(renewed, root)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        free = shutil.disk_usage(partial).free
        room = free // 2 if budget is None else min(budget, free)  # a full disk would kill us while writing to a map
        decode_dataset(root, partial, {"version": VERSION, "source": source}, room, encoding)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except OSError as error:
        raise UserError(f"training cache: cannot write to {folder.parent}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return _with_annotations(FrameCache.open(folder), root)


def _with_annotations(cache: FrameCache, root: Path) -> FrameCache:
    """The cache with the annotations its dataset has by now."""
    theirs, ours = root / "meta" / FILE, cache.folder / FILE
    wanted = theirs.read_bytes() if theirs.is_file() else b""
    if wanted == (ours.read_bytes() if ours.is_file() else b""):
        return cache
    check_annotations(theirs, [len(episode) for episode in cache.episodes])
    assets.write_file(ours, wanted, "training cache")
    return FrameCache.open(cache.folder)


def _with_spec(cache: FrameCache, root: Path) -> FrameCache | None:
    """The cache with the spec its dataset has by now; None if that names other cameras."""
    from vla.data.decode import check_spec

    file = root / "meta" / SPEC
    spec = RobotSpec.load(file) if file.is_file() else None
    if spec == cache.robot:
        return cache
    if spec is None or spec.camera_names != cache.cameras:
        return None
    check_spec(DatasetV3(root), spec)
    spec.save(cache.folder / SPEC)
    return FrameCache.open(cache.folder)


def _picture_bytes(cache: FrameCache) -> int:
    if cache.meta.get("encoding", "raw") == "raw":
        return sum(math.prod(pictures.shape) for pictures in cache.images.values())
    return sum((cache.folder / f"{name}.jpeg").stat().st_size for name in cache.images)


def source_of(root: Path) -> dict[str, Any]:
    """What tells whether a cache still belongs to its dataset, or a run to its data; a copy of it is the same.

    Names and sizes of its files, and what is in the metadata and in small files of numbers.
    """
    info = read_info(root)
    try:
        counts = {key: info[key] for key in ("total_episodes", "total_frames", "fps")}
    except KeyError as error:
        raise UserError(f"dataset {root}: meta/info.json is damaged ({error})") from None
    digest = hashlib.sha256()
    patterns = ("meta/info.json", "meta/stats.json", "meta/episodes/*/*.parquet", "data/*/*.parquet", "videos/**/*.mp4")
    for file in (file for pattern in patterns for file in sorted(root.glob(pattern))):
        name, size = file.relative_to(root).as_posix(), file.stat().st_size
        digest.update(f"{name} {size}\n".encode())
        if name.startswith("meta/") or (name.startswith("data/") and size <= SMALL):
            digest.update(file.read_bytes())
    return {**counts, "sha256": digest.hexdigest()}
