"""The decoded form of an episode dataset: memory-mapped arrays that training reads at memory speed.

A LeRobot dataset is decoded once, file by file, into `<dataset>/cache/`: one uint8 array per camera, states and
actions, and which frames make up which episode. Opening a cache needs numpy alone; LeRobot only to build one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.data.workers import progress_bar
from vla.errors import UserError
from vla.spec import RobotSpec

VERSION = 1
IMAGES = "observation.images."
COLUMNS = {"state": "observation.state", "action": "action", "episode": "episode_index"}
LABELS = {"progress": (), "target_pixel": (2,), "goal_pixel": (2,), "disturbed": ()}
"""Columns a dataset or an older cache may lack: NaN throughout then."""


@dataclass(frozen=True)
class CachedEpisode:
    """Frames start, ..., stop - 1 of the cache. subtasks: (start, stop, text), counted from the episode's start."""

    start: int
    stop: int
    task: str
    subtasks: tuple[tuple[int, int, str], ...] = ()

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class FrameCache:
    """All frames of a dataset, one after the other; arrays are read-only memory maps.

    images: camera -> uint8 (N, H, W, 3) RGB. state: float32 (N, S); action: float32 (N, A), in the spec's units.
    episode: int32 (N,). progress: float32 (N,); target_pixel, goal_pixel: float32 (N, 2), (u, v) in [0, 1] of the
    front image; disturbed: float32 (N,), 1 where what followed was not the action's doing (`vla.data.episode.Frame`);
    these four are NaN where unknown. meta: what `meta.json` says.
    stats: "state", "action" -> min, max, mean, std, q01, q99 lists.
    """

    folder: Path
    meta: Mapping[str, Any]
    spec: RobotSpec
    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    episode: NDArray[np.int32]
    progress: NDArray[np.float32]
    target_pixel: NDArray[np.float32]
    goal_pixel: NDArray[np.float32]
    disturbed: NDArray[np.float32]
    episodes: tuple[CachedEpisode, ...]
    stats: Mapping[str, Mapping[str, list[float]]]

    @classmethod
    def open(cls, path: str | Path) -> FrameCache:
        """The cache at `path`, or of the dataset there; UserError if there is none or it is damaged."""
        folder = Path(path)
        if not (folder / "meta.json").is_file():
            folder = folder / "cache"
        if not (folder / "meta.json").is_file():
            raise UserError(f"training cache: {path} holds none and is no dataset with one; build it with build_cache")
        try:
            meta = json.loads((folder / "meta.json").read_text())
            if meta["version"] != VERSION:
                raise UserError(
                    f"training cache: {folder} is of version {meta['version']}, not {VERSION}; build it again"
                )
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in (*COLUMNS, *meta["cameras"])}
            arrays |= {name: _label(folder, name, len(arrays["episode"])) for name in LABELS}
            episodes = tuple(
                CachedEpisode(e["start"], e["stop"], e["task"], tuple((a, b, text) for a, b, text in e["subtasks"]))
                for e in meta["episodes"]
            )
            stats = json.loads((folder / "stats.json").read_text())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"training cache: {folder} is damaged ({error}); delete it to build it again") from None
        if {len(array) for array in arrays.values()} != {episodes[-1].stop if episodes else 0}:
            raise UserError(f"training cache: the arrays in {folder} differ in length; delete it to build it again")
        return cls(
            folder=folder,
            meta=meta,
            spec=RobotSpec.load(folder / "robot_spec.yaml"),
            images={camera: arrays.pop(camera) for camera in meta["cameras"]},
            episodes=episodes,
            stats=stats,
            **arrays,
        )

    @property
    def fps(self) -> float:
        return float(self.meta["fps"])

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(self.images)

    @property
    def front(self) -> NDArray[np.uint8]:
        return self.images["front"]

    @property
    def wrist(self) -> NDArray[np.uint8]:
        return self.images["wrist"]

    def __len__(self) -> int:
        return len(self.state)


def _label(folder: Path, name: str, frames: int) -> NDArray[np.float32]:
    file = folder / f"{name}.npy"
    return np.load(file, mmap_mode="r") if file.is_file() else np.full((frames, *LABELS[name]), np.nan, np.float32)


def build_cache(dataset: str | Path, out: str | Path | None = None) -> FrameCache:
    """Decode `dataset` into `out` (default `<dataset>/cache`), or open what is there if it still fits.

    Whole or not at all: it is built beside its place and renamed. Raises UserError if `dataset` is no LeRobot v3
    dataset with a `meta/robot_spec.yaml`, or the two do not agree.
    """
    root = Path(dataset).resolve()
    folder = Path(out).resolve() if out else root / "cache"
    source = _source(root)
    if (folder / "meta.json").is_file():
        cache = FrameCache.open(folder)
        if json.loads((folder / "meta.json").read_text())["source"] == source:
            return cache
    spec = RobotSpec.load(root / "meta" / "robot_spec.yaml")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"training cache: cannot write to {folder.parent}: {error.strerror}") from None
    try:
        _build(root, spec, source, partial)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return FrameCache.open(folder)


def _source(root: Path) -> dict[str, Any]:
    """What tells whether a cache still belongs to its dataset."""
    info_file = root / "meta" / "info.json"
    if not info_file.is_file():
        raise UserError(f"dataset {root}: no meta/info.json, so it is no LeRobot v3 dataset")
    if not (root / "meta" / "robot_spec.yaml").is_file():
        raise UserError(f"dataset {root}: no meta/robot_spec.yaml; write one for the robot that recorded it")
    try:
        info = json.loads(info_file.read_text())
        counts = {key: info[key] for key in ("total_episodes", "total_frames", "fps")}
    except (ValueError, KeyError) as error:
        raise UserError(f"dataset {root}: meta/info.json is damaged ({error})") from None
    files = (file for file in (info_file, root / "meta" / "stats.json") if file.is_file())
    return {**counts, "sha256": hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()}


def _build(root: Path, spec: RobotSpec, source: dict[str, Any], partial: Path) -> None:
    from lerobot.datasets import LeRobotDatasetMetadata

    meta = LeRobotDatasetMetadata(f"local/{root.name}", root=root)
    _check(root, spec, meta.features)
    table = _read_columns(root)
    columns = {name: _column(table, key) for name, key in COLUMNS.items()}
    columns["episode"] = columns["episode"].astype(np.int32)
    frames = len(columns["episode"])
    for name, shape in LABELS.items():
        unknown = np.full((frames, *shape), np.nan, np.float32)
        columns[name] = _column(table, name).reshape(unknown.shape) if name in table.column_names else unknown
        if shape:
            columns[name] = np.where((columns[name] >= 0).all(-1, keepdims=True), columns[name], np.float32(np.nan))
        columns[name] = columns[name].astype(np.float32)
    for name, column in columns.items():
        np.save(partial / f"{name}.npy", column)
    with progress_bar("decoding", frames * len(spec.cameras)) as advance:
        for camera in spec.cameras:
            shape = (frames, camera.height, camera.width, 3)
            images = np.lib.format.open_memmap(partial / f"{camera.name}.npy", "w+", np.uint8, shape)
            if meta.features[camera.key]["dtype"] == "video":
                _decode_videos(meta, camera.key, images, advance)
            else:
                _decode_images(table, camera.key, images, advance)
            images.flush()
    subtasks = table["subtask"].to_pylist() if "subtask" in table.column_names else None
    episodes = [
        CachedEpisode(
            start=row["dataset_from_index"],
            stop=row["dataset_to_index"],
            task=row["tasks"][0],
            subtasks=_runs(subtasks, row["dataset_from_index"], row["dataset_to_index"]) if subtasks else (),
        )
        for row in meta.episodes.select_columns(["dataset_from_index", "dataset_to_index", "tasks"])
    ]
    stats = {name: _statistics(columns[name]) for name in ("state", "action")}
    (partial / "stats.json").write_text(json.dumps(stats, indent=2))
    spec.save(partial / "robot_spec.yaml")
    about = {"version": VERSION, "fps": meta.fps, "cameras": spec.camera_names, "source": source}
    (partial / "meta.json").write_text(json.dumps({**about, "episodes": [asdict(e) for e in episodes]}))


def _check(root: Path, spec: RobotSpec, features: Mapping[str, Any]) -> None:
    wanted: dict[str, tuple[int, ...]] = {camera.key: (camera.height, camera.width, 3) for camera in spec.cameras}
    wanted |= {"observation.state": (spec.state_size,), "action": (spec.action_size,)}
    for key, shape in wanted.items():
        if key not in features:
            raise UserError(f"dataset {root}: no column {key}, which its robot_spec.yaml promises")
        if tuple(features[key]["shape"]) != shape:
            raise UserError(
                f"dataset {root}: {key} has shape {tuple(features[key]['shape'])}, its robot_spec.yaml {shape}"
            )


def _read_columns(root: Path) -> Any:
    """All frames as one Arrow table, in order of index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted((root / "data").glob("chunk-*/file-*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]).sort_by("index")


def _column(table: Any, key: str) -> NDArray[Any]:
    import pyarrow as pa

    column = table[key].combine_chunks()
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1).astype(np.float32)
    values = column.to_numpy(zero_copy_only=False)
    return values.astype(np.float32) if np.issubdtype(values.dtype, np.floating) else values


def _decode_videos(meta: Any, key: str, images: NDArray[np.uint8], advance: Any) -> None:
    """Decode every video file from front to back; a file holds whole episodes, one after the other."""
    import av

    where = [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
    by_file: dict[tuple[int, int], list[tuple[float, int, int]]] = {}
    for row in meta.episodes.select_columns([*where, "dataset_from_index", "dataset_to_index"]):
        chunk, file, begin = (row[name] for name in where)
        by_file.setdefault((chunk, file), []).append((begin, row["dataset_from_index"], row["dataset_to_index"]))
    for (chunk, file), episodes in by_file.items():
        path = meta.root / meta.video_path.format(video_key=key, chunk_index=chunk, file_index=file)
        target: dict[int, int] = {}
        for begin, start, stop in episodes:
            first = round(begin * meta.fps)
            target.update(zip(range(first, first + stop - start), range(start, stop), strict=True))
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                place = target.pop(round(float(frame.time) * meta.fps), None)
                if place is not None:
                    images[place] = frame.to_ndarray(format="rgb24")
                    advance(1)
        if target:
            raise UserError(f"dataset {meta.root}: {path.relative_to(meta.root)} lacks {len(target)} frames")


def _decode_images(table: Any, key: str, images: NDArray[np.uint8], advance: Any) -> None:
    import cv2

    for index, item in enumerate(table[key]):
        encoded = np.frombuffer(item["bytes"].as_buffer(), np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise UserError(f"dataset: frame {index} of {key} is no readable picture")
        images[index] = image
        advance(1)


def _runs(subtasks: list[str], start: int, stop: int) -> tuple[tuple[int, int, str], ...]:
    """Stretches of the same subtask in frames start, ..., stop - 1, counted from start; nameless ones are left out."""
    edges = [start, *(i for i in range(start + 1, stop) if subtasks[i] != subtasks[i - 1]), stop]
    return tuple((a - start, b - start, subtasks[a]) for a, b in pairwise(edges) if subtasks[a])


def _statistics(values: NDArray[np.float32]) -> dict[str, list[float]]:
    """Per dimension: min, max, mean, std, 1st and 99th percentile."""
    low, high = np.quantile(values, [0.01, 0.99], axis=0)
    found = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0, np.float64), "std": values.std(0)}
    return {name: [float(x) for x in array] for name, array in {**found, "q01": low, "q99": high}.items()}
