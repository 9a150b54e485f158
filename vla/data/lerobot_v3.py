"""LeRobot's dataset format v3, read without LeRobot: what is in which file, and columns in bounded memory.

meta/info.json                              features, frame rate, counts, where the files are
meta/episodes/chunk-*/file-*.parquet        one row per episode: its frames, tasks and parts of video files
data/chunk-*/file-*.parquet                 one row per frame
videos/<key>/chunk-*/file-*.mp4             whole episodes, one after the other
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.errors import UserError

STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
ROWS = 4096
"""Frames read at once where they are numbers."""
PICTURES = 64
"""Frames read at once where they carry pictures."""


@dataclass(frozen=True)
class Part:
    """An episode's part of a video file: it begins at `begin` seconds and holds frames start, ..., stop - 1."""

    begin: float
    start: int
    stop: int


@dataclass(frozen=True)
class Recorded:
    """An episode: frames start, ..., stop - 1 of the dataset, and its first task."""

    start: int
    stop: int
    task: str


class DatasetV3:
    """A LeRobot v3 dataset on disk. Raises UserError if there is none at `root` or its metadata are damaged."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        info = read_info(self.root)
        try:
            self.fps = float(info["fps"])
            self.features: Mapping[str, Mapping[str, Any]] = info["features"]
            self.frames, self.episode_count = int(info["total_frames"]), int(info["total_episodes"])
            self.robot_type = str(info.get("robot_type") or "")
            self._video_path = str(info.get("video_path") or "")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"dataset {root}: meta/info.json is damaged ({error!r})") from None
        if not (self.fps > 0 and self.frames > 0):
            raise UserError(f"dataset {root}: {self.frames} frames at {self.fps} frames/s; there is nothing to read")

    @property
    def cameras(self) -> dict[str, str]:
        """Name -> key of every picture feature but depth."""
        keys = [
            key
            for key, feature in self.features.items()
            if feature["dtype"] in ("video", "image") and not _is_depth(feature)
        ]
        return {key.removeprefix(IMAGES): key for key in keys}

    def picture_size(self, key: str) -> tuple[int, int]:
        """(height, width) of a picture feature."""
        return picture_size(self.features[key])

    def dimension_names(self, key: str) -> list[str] | None:
        """What each entry of a vector is called; None if `meta/info.json` does not say."""
        return entry_names(self.features[key], int(np.prod(self.features[key]["shape"])))

    def vectors(self) -> dict[str, int]:
        """Key -> size of every feature of real numbers per frame, but the timestamp."""
        return {
            key: int(np.prod(feature["shape"]))
            for key, feature in self.features.items()
            if str(feature["dtype"]).startswith("float") and key != "timestamp"
        }

    def episodes(self) -> Iterator[Recorded]:
        """In the order of their frames."""
        columns = ["dataset_from_index", "dataset_to_index", "tasks"]
        rows = sorted(self._episode_rows(columns), key=lambda row: row["dataset_from_index"])
        edge = 0
        for row in rows:
            start, stop = row["dataset_from_index"], row["dataset_to_index"]
            if start != edge or stop <= start:
                raise UserError(f"dataset {self.root}: meta/episodes has an episode of frames {start} to {stop}")
            yield Recorded(start, stop, row["tasks"][0] if row["tasks"] else "")
            edge = stop
        if edge != self.frames:
            raise UserError(f"dataset {self.root}: meta/episodes ends at frame {edge}, info.json at {self.frames}")

    def video_parts(self, key: str) -> Iterator[tuple[Path, list[Part]]]:
        """Every video file of a camera with the episodes in it."""
        where = [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
        by_file: dict[tuple[int, int], list[Part]] = {}
        for row in self._episode_rows([*where, "dataset_from_index", "dataset_to_index"]):
            chunk, file, begin = (row[name] for name in where)
            part = Part(begin, row["dataset_from_index"], row["dataset_to_index"])
            by_file.setdefault((chunk, file), []).append(part)
        for (chunk, file), parts in by_file.items():
            yield self.root / self._video_path.format(video_key=key, chunk_index=chunk, file_index=file), parts

    def columns(self, keys: Sequence[str], rows: int = ROWS) -> Iterator[tuple[NDArray[np.int64], Mapping[str, Any]]]:
        """The frames' numbers and their columns (Arrow arrays), `rows` at a time, as the files hold them."""
        import pyarrow.parquet as pq

        for path in self._files("data"):
            with pq.ParquetFile(path) as file:
                missing = [key for key in keys if key not in file.schema_arrow.names]
                if missing:
                    raise UserError(f"dataset {self.root}: {path.relative_to(self.root)} has no column {missing[0]}")
                for batch in file.iter_batches(rows, columns=["index", *keys]):
                    index = batch.column("index").to_numpy(zero_copy_only=False)
                    if index.min() < 0 or index.max() >= self.frames:
                        raise UserError(
                            f"dataset {self.root}: {path.relative_to(self.root)} has frame {index.max()}, "
                            f"info.json {self.frames} frames"
                        )
                    yield index, {key: batch.column(key) for key in keys}

    def _episode_rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        import pyarrow.parquet as pq

        for path in self._files("meta/episodes"):
            try:
                yield from pq.read_table(path, columns=columns).select(columns).to_pylist()
            except KeyError as error:
                raise UserError(f"dataset {self.root}: {path.relative_to(self.root)}: {error.args[0]}") from None

    def _files(self, folder: str) -> list[Path]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        paths = sorted((self.root / folder).glob("chunk-*/file-*.parquet"))
        if not paths:
            raise UserError(f"dataset {self.root}: no {folder}/chunk-*/file-*.parquet")
        for path in paths:
            try:
                pq.read_schema(path)
            except (OSError, pa.ArrowInvalid) as error:
                raise UserError(f"dataset {self.root}: {path.relative_to(self.root)} is damaged ({error})") from None
        return paths


def read_info(root: Path) -> dict[str, Any]:
    """`meta/info.json`: features, fps and more. Raises UserError if `root` is no LeRobot v3 dataset."""
    if not (root / "meta" / "info.json").is_file():
        raise UserError(f"dataset {root}: no meta/info.json, so it is no LeRobot v3 dataset")
    info = read_meta(root, "info.json")
    for key in ("features", "fps"):
        if key not in info:
            raise UserError(f"dataset {root}: meta/info.json has no {key}")
    version = str(info.get("codebase_version", "v3.0"))
    if not version.startswith("v3"):
        raise UserError(f"dataset {root}: its format is {version}, not v3; convert it with LeRobot's own converter")
    return info


def read_meta(root: Path, name: str) -> dict[str, Any]:
    """A mapping in `meta`; UserError if it cannot be read."""
    try:
        return dict(json.loads((root / "meta" / name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"dataset {root}: meta/{name} is damaged ({error})") from None


def entry_names(feature: Mapping[str, Any], size: int) -> list[str] | None:
    """What each of `size` entries is called, if the feature says so of as many. LeRobot nests some lists."""
    named = feature.get("names")
    if isinstance(named, Mapping):
        named = next(iter(named.values()), None)
    known = isinstance(named, list) and len(named) == size
    return [str(name) for name in named] if known and named else None


def picture_size(feature: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of pictures; LeRobot allows (H, W, 3) and (3, H, W)."""
    shape, names = tuple(feature["shape"]), list(feature.get("names") or [])
    channels_first = str(names[0]).startswith("channel") if len(names) == 3 else shape[0] == 3
    height, width = shape[1:] if channels_first else shape[:2]
    return height, width


def _is_depth(feature: Mapping[str, Any]) -> bool:
    infos = [feature.get(name) or {} for name in ("info", "video_info")]
    return any(info.get(name, False) for info in infos for name in ("is_depth_map", "video.is_depth_map"))


def read_motion(dataset: str | Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """States (N, S) and actions (N, A) of all frames, without their pictures."""
    keys = (STATE, ACTION)
    parts = [[as_numbers(columns[key]) for key in keys] for _, columns in DatasetV3(dataset).columns(keys)]
    state, action = (np.concatenate(part).astype(np.float32) for part in zip(*parts, strict=True))
    return state, action


def as_numbers(column: Any) -> NDArray[Any]:
    """An Arrow column as an array: (n, D) float32 for lists, (n,) else; doubles become float32 as in LeRobot."""
    import pyarrow as pa

    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1).astype(np.float32)
    values = column.to_numpy(zero_copy_only=False)
    return values.astype(np.float32) if np.issubdtype(values.dtype, np.floating) else values
