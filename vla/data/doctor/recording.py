"""A LeRobot v3 dataset as its files say it, with as little trust in them as reading allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vla.data.lerobot_v3 import ACTION, STATE, entry_names, read_info, read_meta
from vla.errors import UserError
from vla.extras import need
from vla.spec import RobotSpec

INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True)
class Entry:
    """What the metadata say of one episode: rows start, ..., stop - 1, texts; camera -> (chunk, file, from, to s)."""

    number: int
    start: int
    stop: int
    tasks: tuple[str, ...]
    videos: Mapping[str, tuple[int, int, float, float]]


@dataclass(frozen=True)
class Recording:
    """columns: name -> (N, ...) numbers, in the order of the files. tasks: number -> text. stats: as in the file.

    spec: None where the dataset carries none.
    """

    root: Path
    info: Mapping[str, Any]
    spec: RobotSpec | None
    stats: Mapping[str, Mapping[str, Any]]
    tasks: Mapping[int, str]
    entries: tuple[Entry, ...]
    columns: Mapping[str, np.ndarray]

    @classmethod
    def open(cls, root: str | Path) -> Recording:
        """Raises UserError if `root` is no LeRobot v3 dataset or one of its files cannot be read."""
        need("data", "pyarrow")
        root = Path(root)
        info = read_info(root)
        spec_file = root / "meta" / "robot_spec.yaml"
        numbers = [
            key for key, feature in info["features"].items() if feature["dtype"] not in ("video", "image", "string")
        ]
        return cls(
            root=root,
            info=info,
            spec=RobotSpec.load(spec_file) if spec_file.is_file() else None,
            stats=read_meta(root, "stats.json") if (root / "meta" / "stats.json").is_file() else {},
            tasks=_tasks(root),
            entries=_entries(root, info),
            columns=_columns(root, numbers),
        )

    @property
    def fps(self) -> float:
        return float(self.info["fps"])

    @property
    def cameras(self) -> tuple[str, ...]:
        """Keys of the features that are pictures."""
        return tuple(key for key, one in self.info["features"].items() if one["dtype"] in ("video", "image"))

    @cached_property
    def episodes(self) -> Mapping[int, slice]:
        """Where the rows of each episode are, as `episode_index` says: the metadata may be wrong."""
        numbers = self.columns["episode_index"].ravel().astype(int)
        edges = np.flatnonzero(np.diff(numbers)) + 1
        starts, stops = [0, *edges], [*edges, len(numbers)]
        return {int(numbers[a]): slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True) if b > a}

    def vectors(self, key: str) -> np.ndarray:
        """A column as (N, D) float64; (N, 0) if the dataset lacks it."""
        if key not in self.columns:
            return np.zeros((len(self), 0))
        return self.columns[key].reshape(len(self), -1).astype(np.float64)

    @property
    def fits_spec(self) -> bool:
        """Whether state and action have the sizes that the spec gives them."""
        sizes = [self.vectors(key).shape[1] for key in (STATE, ACTION)]
        return self.spec is not None and sizes == [self.spec.state_size, self.spec.action_size]

    def strings(self, key: str) -> list[str] | None:
        """A column of text, None if the dataset lacks it."""
        if self.info["features"].get(key, {}).get("dtype") != "string":
            return None
        table = _tables(self.root, "data/chunk-*/file-*.parquet", [key])
        return [text or "" for text in table[key].to_pylist()] if key in table.column_names else None

    def names(self, key: str) -> list[str]:
        """What each entry of a column is called."""
        size = self.vectors(key).shape[1]
        return entry_names(self.info["features"].get(key, {}), size) or [f"{key}[{i}]" for i in range(size)]

    def place(self, row: int) -> tuple[int, int]:
        """Episode and frame within it of a row."""
        number = int(self.columns["episode_index"].ravel()[row])
        return number, row - self.episodes[number].start

    def __len__(self) -> int:
        return len(self.columns["episode_index"])


def _tables(root: Path, pattern: str, columns: list[str] | None = None) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(root.glob(pattern))
    if not files:
        raise UserError(f"dataset {root}: there is no {pattern}")
    tables = []
    for file in files:
        try:
            there = pq.read_schema(file).names
            tables.append(pq.read_table(file, columns=None if columns is None else [c for c in columns if c in there]))
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"dataset {root}: {file.relative_to(root)} cannot be read: {reason}") from None
    return pa.concat_tables(tables, promote_options="default")


def _columns(root: Path, keys: list[str]) -> dict[str, np.ndarray]:
    import pyarrow as pa

    table = _tables(root, "data/chunk-*/file-*.parquet", keys)
    if "episode_index" not in table.column_names or not len(table):
        raise UserError(f"dataset {root}: its data has no rows with an episode_index")
    found = {}
    for key in table.column_names:
        column = table[key].combine_chunks()
        while pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
            column = column.flatten()
        values = column.to_numpy(zero_copy_only=False)
        if len(values) % len(table):
            raise UserError(f"dataset {root}: {key} has rows of differing length")
        found[key] = values.reshape(len(table), -1).astype(np.float64 if values.dtype == object else values.dtype)
    return found


def _tasks(root: Path) -> dict[int, str]:
    if not (root / "meta" / "tasks.parquet").is_file():
        return {}
    table = _tables(root, "meta/tasks.parquet")
    text = next((name for name in table.column_names if name != "task_index"), None)
    if text is None or "task_index" not in table.column_names:
        raise UserError(f"dataset {root}: meta/tasks.parquet has no texts with a task_index")
    return {int(n): str(t or "") for n, t in zip(table["task_index"].to_pylist(), table[text].to_pylist(), strict=True)}


def _entries(root: Path, info: Mapping[str, Any]) -> tuple[Entry, ...]:
    videos = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    names = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    wanted = ["episode_index", "dataset_from_index", "dataset_to_index", "tasks"]
    table = _tables(
        root, "meta/episodes/chunk-*/file-*.parquet", [*wanted, *(f"videos/{v}/{n}" for v in videos for n in names)]
    )
    missing = [name for name in wanted[:3] if name not in table.column_names]
    if missing:
        raise UserError(f"dataset {root}: meta/episodes has no {missing[0]}")
    found = []
    for row in table.to_pylist():
        places = {v: tuple(row.get(f"videos/{v}/{n}") for n in names) for v in videos}
        found.append(
            Entry(
                number=row["episode_index"],
                start=row["dataset_from_index"],
                stop=row["dataset_to_index"],
                tasks=tuple(text or "" for text in row.get("tasks") or ()),
                videos={v: place for v, place in places.items() if None not in place},
            )
        )
    return tuple(found)
