"""From the files of a LeRobot dataset to the arrays of a training cache, each read once from front to back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.data.cache import COLUMNS, EXECUTED, LABEL_COLUMNS, LABELS, SPEC, CachedEpisode
from vla.data.frames import Encoding, JpegWriter, RawWriter, Write
from vla.data.lerobot_v3 import IMAGES, PICTURES, DatasetV3, as_numbers
from vla.data.statistics import Statistics
from vla.data.workers import progress_bar
from vla.errors import UserError
from vla.extras import need
from vla.spec import RobotSpec

SUBTASK = "subtask"


def decode_dataset(
    root: Path, folder: Path, about: Mapping[str, Any], budget: int, encoding: Encoding | None = None
) -> None:
    """Write the cache of the dataset at `root` into `folder`; memory does not grow with the dataset.

    about: what else `meta.json` says. budget: bytes for pictures. encoding: by default raw if it fits, else JPEG.
    """
    need("data", "pyarrow", "datasketches")
    dataset = DatasetV3(root)
    spec = RobotSpec.load(root / "meta" / SPEC) if (root / "meta" / SPEC).is_file() else None
    cameras = {camera.name: camera.key for camera in spec.cameras} if spec else dataset.cameras
    _check(dataset, spec, cameras)
    sizes = {name: dataset.picture_size(key) for name, key in cameras.items()}
    pixels = {name: height * width for name, (height, width) in sizes.items()}
    raw = 3 * dataset.frames * sum(pixels.values())
    encoding = encoding or ("raw" if raw <= budget else "jpeg")
    if encoding == "raw" and raw > budget:
        raise UserError(f"training cache: {raw / 1e9:.3g} GB of raw pictures, the budget is {budget / 1e9:.3g} GB")
    episodes = _write_columns(dataset, folder)
    with progress_bar("decoding", dataset.frames * len(cameras)) as advance:
        for name, key in cameras.items():
            shape = (dataset.frames, *sizes[name], 3)
            share = budget * pixels[name] / sum(pixels.values())
            writer: RawWriter | JpegWriter = (
                RawWriter(folder, name, shape) if encoding == "raw" else JpegWriter(folder, name, shape, share)
            )

            def write(place: int, picture: NDArray[np.uint8], to: Any = writer, shape: Any = shape) -> None:
                if picture.shape != shape[1:]:
                    raise UserError(
                        f"dataset {root}: frame {place} of {key} is {picture.shape}, meta/info.json says {shape[1:]}"  # noqa: B023
                    )
                to.write(place, picture)
                advance(1)

            decode = _decode_videos if dataset.features[key]["dtype"] == "video" else _decode_images
            decode(dataset, key, write)
            writer.close()
    if spec:
        spec.save(folder / SPEC)
    meta = {**about, "fps": dataset.fps, "cameras": list(cameras), "encoding": encoding, "sizes": sizes}
    (folder / "meta.json").write_text(json.dumps({**meta, "episodes": [asdict(episode) for episode in episodes]}))


def _check(dataset: DatasetV3, spec: RobotSpec | None, cameras: Mapping[str, str]) -> None:
    for key in (*cameras.values(), COLUMNS["state"], COLUMNS["action"]):
        if key not in dataset.features:
            promised = f", which its {SPEC} promises" if spec else ""
            raise UserError(f"dataset {dataset.root}: no column {key}{promised}")
    for name in cameras:
        if name in (*COLUMNS, *LABELS):
            raise UserError(f"dataset {dataset.root}: a camera cannot be called {name!r}; rename {IMAGES}{name}")
    if spec:
        check_spec(dataset, spec)


def check_spec(dataset: DatasetV3, spec: RobotSpec) -> None:
    """UserError unless the dataset's features have the sizes that `spec` gives them."""
    wanted: dict[str, tuple[int, ...]] = {camera.key: (camera.height, camera.width) for camera in spec.cameras}
    wanted |= {"observation.state": (spec.state_size,), "action": (spec.action_size,)}
    for key, shape in wanted.items():
        found = dataset.picture_size(key) if key.startswith(IMAGES) else tuple(dataset.features[key]["shape"])
        if found != shape:
            raise UserError(f"dataset {dataset.root}: {key} has shape {found}, its {SPEC} {shape}")


def _write_columns(dataset: DatasetV3, folder: Path) -> list[CachedEpisode]:
    """The columns of numbers and their statistics; returns the episodes."""
    import pyarrow.compute as pc

    keys = {**COLUMNS, **{name: key for name, key in LABEL_COLUMNS.items() if key in dataset.features}}
    width = {name: int(np.prod(dataset.features[COLUMNS[name]]["shape"])) for name in ("state", "action")}
    shapes: dict[str, tuple[int, ...]] = {**{name: (size,) for name, size in width.items()}, "episode": (), **LABELS}
    if EXECUTED in dataset.features:
        keys[EXECUTED], shapes[EXECUTED] = EXECUTED, shapes["action"]
    arrays = {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", "w+", np.int32 if name == "episode" else np.float32, (dataset.frames, *shape)
        )
        for name, shape in shapes.items()
    }
    statistics = {name: Statistics(size) for name, size in width.items()}
    has_subtasks = SUBTASK in dataset.features
    words: dict[str, int] = {}
    subtasks = np.zeros(dataset.frames if has_subtasks else 0, np.int32)
    seen = np.zeros(dataset.frames, bool)
    for name in LABELS.keys() - keys.keys():
        arrays[name][:] = np.nan
    for index, columns in dataset.columns([*keys.values(), *([SUBTASK] if has_subtasks else [])]):
        seen[index] = True
        for name, key in keys.items():
            column = pc.equal(columns[key], "person") if name == "person" else columns[key]
            values = as_numbers(column).reshape(len(index), *shapes[name])
            if name in LABELS and shapes[name]:
                values = np.where((values >= 0).all(-1, keepdims=True), values, np.float32(np.nan))
            arrays[name][index] = values
            if name in statistics:
                statistics[name].update(values)
        if has_subtasks:
            subtasks[index] = [words.setdefault(text, len(words)) for text in columns[SUBTASK].to_pylist()]
    if not seen.all():
        raise UserError(f"dataset {dataset.root}: its data files lack frame {int(np.argmin(seen))}")
    for array in arrays.values():
        array.flush()
    stats = {name: found.to_dict() for name, found in statistics.items()}
    (folder / "stats.json").write_text(json.dumps(stats, indent=2))
    texts = list(words)
    return [
        CachedEpisode(one.start, one.stop, one.task, _runs(subtasks, texts, one.start, one.stop) if texts else ())
        for one in dataset.episodes()
    ]


def _decode_videos(dataset: DatasetV3, key: str, write: Write) -> None:
    import av

    for path, parts in dataset.video_parts(key):
        target: dict[int, int] = {}
        for part in parts:
            first = round(part.begin * dataset.fps)
            target.update(zip(range(first, first + part.stop - part.start), range(part.start, part.stop), strict=True))
        try:
            with av.open(str(path)) as container:
                container.streams.video[0].thread_type = "AUTO"
                for frame in container.decode(video=0):
                    place = target.pop(round(float(frame.time or 0) * dataset.fps), None)
                    if place is not None:
                        write(place, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
        except (av.FFmpegError, IndexError) as error:
            raise UserError(f"dataset {dataset.root}: {path.relative_to(dataset.root)}: {error}") from None
        if target:
            raise UserError(
                f"dataset {dataset.root}: {path.relative_to(dataset.root)} lacks {len(target)} frames, the first is "
                f"frame {min(target.values())} of the dataset"
            )


def _decode_images(dataset: DatasetV3, key: str, write: Write) -> None:
    import cv2

    for index, columns in dataset.columns([key], rows=PICTURES):
        for place, item in zip(index, columns[key], strict=True):
            encoded = np.frombuffer(item["bytes"].as_buffer() or b"", np.uint8)
            picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if len(encoded) else None
            if picture is None:
                raise UserError(f"dataset {dataset.root}: frame {place} of {key} is no readable picture")
            write(int(place), np.asarray(picture, np.uint8))


def _runs(subtasks: NDArray[np.int32], texts: list[str], start: int, stop: int) -> tuple[tuple[int, int, str], ...]:
    """Stretches of the same subtask in frames start, ..., stop - 1, counted from start; nameless ones are left out."""
    edges = [start, *(start + 1 + np.flatnonzero(np.diff(subtasks[start:stop]))).tolist(), stop]
    return tuple((a - start, b - start, texts[subtasks[a]]) for a, b in pairwise(edges) if texts[subtasks[a]])
