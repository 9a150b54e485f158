"""A copy of a dataset whose frames carry their instruction as numbers, for LeRobot's policies that have no language."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from vla import assets
from vla.data.lerobot_v3 import DatasetV3
from vla.errors import UserError
from vla.peers.text import embed_text

KEY = "observation.environment_state"


def embed_dataset(dataset: Path, out: Path, size: int) -> int:
    """Write `out`: `dataset` with a column `observation.environment_state` (size,), the frozen embedding of each task.

    Videos are hard links where the disk allows it, else copies. Returns the number of different instructions. Whole or
    not at all. Raises UserError if `dataset` is no LeRobot v3 dataset, has the column already, or `out` exists.
    """
    source = DatasetV3(dataset)
    if KEY in source.features:
        raise UserError(f"dataset {dataset}: it has {KEY} already")
    if out.exists():
        raise UserError(f"dataset {out} exists; choose another --out")
    assets.check_folder_writable(out, "--out")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        shutil.copytree(dataset, partial, copy_function=_link, ignore=shutil.ignore_patterns("cache", "data"))
        texts = _tasks(dataset)
        table = np.stack([embed_text(text, size) for text in texts])
        for path in sorted((dataset / "data").glob("chunk-*/file-*.parquet")):
            _with_column(path, partial / path.relative_to(dataset), table)
        _describe(partial / "meta", size, table)
        partial.rename(out)
    except OSError as error:
        raise UserError(f"dataset {out}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(texts)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _tasks(dataset: Path) -> list[str]:
    """The instructions by `task_index`."""
    import pyarrow.parquet as pq

    file = dataset / "meta" / "tasks.parquet"
    if not file.is_file():
        raise UserError(f"dataset {dataset}: no meta/tasks.parquet")
    rows = pq.read_table(file).to_pylist()
    # LeRobot's table is pandas's, whose index is the text.
    named = {row["task_index"]: row.get("task", row.get("__index_level_0__")) for row in rows}
    if sorted(named) != list(range(len(named))) or not all(isinstance(text, str) for text in named.values()):
        raise UserError(f"dataset {dataset}: meta/tasks.parquet is damaged")
    return [named[index] for index in range(len(named))]


def _with_column(source: Path, target: Path, table: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    target.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetFile(source) as file:
        field = pa.field(KEY, pa.list_(pa.float32(), table.shape[1]))
        # What `datasets` noted about the columns no longer holds; it reads the types of info.json.
        schema = file.schema_arrow.append(field).remove_metadata()
        with pq.ParquetWriter(target, schema) as writer:
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group)
                values = table[rows.column("task_index").to_numpy()]
                column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), table.shape[1])
                writer.write_table(rows.append_column(field, column).cast(schema))


def _describe(meta: Path, size: int, table: np.ndarray) -> None:
    """The column in info.json and stats.json. Files are replaced: they are hard links into the source."""
    info = json.loads((meta / "info.json").read_text(encoding="utf-8"))
    names = [f"text_{i}" for i in range(size)]
    info["features"][KEY] = {"dtype": "float32", "shape": [size], "names": names}
    _replace(meta / "info.json", info)
    stats = meta / "stats.json"
    if stats.is_file():
        found = json.loads(stats.read_text(encoding="utf-8"))
        spread = {name: getattr(table, name)(axis=0).tolist() for name in ("min", "max", "mean", "std")}
        _replace(stats, found | {KEY: spread | {"count": [info["total_frames"]]}})


def _replace(file: Path, document: Any) -> None:
    file.unlink()
    file.write_text(json.dumps(document, indent=4), encoding="utf-8")
