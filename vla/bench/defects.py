"""Faults planted in a copy of a dataset, on disk, as they happen to recordings.

Each takes the copy, a severity in (0, 1] and a source of chance, damages it, and tells the episodes it damaged. The
statistics are computed again afterwards, as the recorder of faulty data would have; only files that disagree differ.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from vla.data.doctor.pictures import pictures_of
from vla.data.doctor.recording import Recording
from vla.data.lerobot_v3 import ACTION, STATE

Rng = np.random.Generator
Pictures = dict[str, NDArray[np.uint8]]


class Copy:
    """A dataset rewritten into one file of each kind, so that any row can be changed; `save` writes it."""

    def __init__(self, source: Path, target: Path) -> None:
        self.source, self.root = Recording.open(source), target
        self.table = _frame(source, "data/chunk-*/file-*.parquet")
        self.meta = _frame(source, "meta/episodes/chunk-*/file-*.parquet")
        self.tasks = _frame(source, "meta/tasks.parquet")
        self.info: dict[str, Any] = json.loads((source / "meta" / "info.json").read_text())
        self.stats: dict[str, Any] = json.loads((source / "meta" / "stats.json").read_text())
        spec = source / "meta" / "robot_spec.yaml"
        self.spec: dict[str, Any] | None = yaml.safe_load(spec.read_text()) if spec.is_file() else None
        self.fresh_stats, self.changed = True, set[str]()

    @property
    def fps(self) -> int:
        return int(self.info["fps"])

    @property
    def episodes(self) -> Mapping[int, slice]:
        return self.source.episodes

    @cached_property
    def pictures(self) -> Pictures:
        """All pictures of every camera (N, H, W, 3), ready to be changed; say so in `changed`."""
        found = {}
        for key in self.cameras:
            found[key] = np.stack([image for _, image in sorted(pictures_of(self.source, key), key=lambda one: one[0])])
        return found

    def column(self, key: str) -> NDArray[np.float32]:
        """(N, D), to be changed and given back with `put`."""
        return np.stack(self.table[key].to_numpy()).reshape(len(self.table), -1).copy()

    def put(self, key: str, values: np.ndarray) -> None:
        self.table[key] = list(values.astype(np.float32))

    def part(self, key: str, name: str) -> slice | None:
        """Where a field of the spec sits in the state or action."""
        if self.source.spec is None:
            return None
        spec = self.source.spec
        return (spec.state_slices if key == STATE else spec.action_slices).get(name)

    def select(self, rows: NDArray[np.int64]) -> None:
        """Keep these rows, in this order, some perhaps twice; everything is numbered again."""
        self.table = self.table.iloc[rows].reset_index(drop=True)
        for key, images in self.pictures.items():
            self.pictures[key] = images[rows]
            self.changed.add(key)
        numbers = self.table["episode_index"].to_numpy()
        self.table["index"] = np.arange(len(numbers))
        index = np.concatenate([np.arange(np.sum(numbers == n)) for n in self.meta["episode_index"]])
        self.table["frame_index"] = index
        self.table["timestamp"] = (index / self.fps).astype(np.float32)
        lengths = np.array([np.sum(numbers == n) for n in self.meta["episode_index"]])
        ends = np.cumsum(lengths)
        self.meta["length"], self.meta["dataset_to_index"] = lengths, ends
        self.meta["dataset_from_index"] = ends - lengths
        self.info["total_frames"] = len(numbers)

    def leave_out(self, key: str) -> None:
        """Without this camera."""
        for place in (self.info["features"], self.stats):
            place.pop(key, None)
        self.meta = self.meta[[name for name in self.meta.columns if key not in name]]
        if self.spec is not None:
            self.spec["cameras"] = [c for c in self.spec["cameras"] if f"observation.images.{c['name']}" != key]

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(key for key in self.source.cameras if key in self.info["features"])

    def save(self) -> Path:
        from vla.data.video import encode

        for folder in ("data/chunk-000", "meta/episodes/chunk-000"):
            (self.root / folder).mkdir(parents=True)
        if self.fresh_stats:
            self._count()
        self.meta["data/chunk_index"] = self.meta["data/file_index"] = 0
        ends = self.meta["dataset_to_index"] / self.fps
        for key in self.cameras:
            path = self.root / f"videos/{key}/chunk-000/file-000.mp4"
            if self.info["features"][key]["dtype"] == "video":
                begin = self.meta["dataset_from_index"] / self.fps
                files = list((self.source.root / "videos" / key).rglob("*.mp4"))
                if key in self.changed or len(files) > 1:
                    path.parent.mkdir(parents=True)
                    encode(list(self.pictures[key]), path, self.fps)
                    for name, value in (
                        ("chunk_index", 0),
                        ("file_index", 0),
                        ("from_timestamp", begin),
                        ("to_timestamp", ends),
                    ):
                        self.meta[f"videos/{key}/{name}"] = value
                else:
                    shutil.copytree(self.source.root / "videos" / key, self.root / "videos" / key)
            elif key in self.changed:
                self.table[key] = [{"bytes": _png(image), "path": None} for image in self.pictures[key]]
        self.table.to_parquet(self.root / "data/chunk-000/file-000.parquet")
        self.meta.to_parquet(self.root / "meta/episodes/chunk-000/file-000.parquet")
        self.tasks.to_parquet(self.root / "meta/tasks.parquet")
        (self.root / "meta/info.json").write_text(json.dumps(self.info))
        (self.root / "meta/stats.json").write_text(json.dumps(self.stats))
        if self.spec is not None:
            (self.root / "meta/robot_spec.yaml").write_text(yaml.safe_dump(self.spec, sort_keys=False))
        return self.root

    def _count(self) -> None:
        for key in self.source.columns.keys() & self.stats.keys():
            values = self.column(key).astype(np.float64)
            if np.isfinite(values).all():
                about = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
                self.stats[key] = {name: list(map(float, found)) for name, found in about.items()}
        for key in self.changed & self.stats.keys():
            mean = self.pictures[key].mean((0, 1, 2)) / 255
            self.stats[key]["mean"] = [[[float(channel)]] for channel in mean]


@dataclass(frozen=True)
class Defect:
    """kinds: findings that tell it. plant: returns the damaged episodes (empty: all), or None if it has no place here.

    size: what severity means, in words, as a format of a number in (0, 1].
    """

    name: str
    kinds: tuple[str, ...]
    plant: Callable[[Copy, float, Rng], set[int] | None]
    size: str


def _some(copy: Copy, share: float, rng: Rng) -> list[int]:
    numbers = list(copy.episodes)
    return sorted(int(n) for n in rng.choice(numbers, max(1, round(share * len(numbers))), replace=False))


def _stretch(copy: Copy, share: float, rng: Rng) -> tuple[int, int, int]:
    """An episode and rows start, ..., stop - 1 of it, `share` of its length, at least one."""
    number = int(rng.choice(list(copy.episodes)))
    rows = copy.episodes[number]
    length = max(1, round(share * (rows.stop - rows.start - 2)))
    start = (
        int(rng.integers(rows.start + 1, rows.stop - length)) if rows.stop - length > rows.start + 1 else rows.start + 1
    )
    return number, start, start + length


def quaternion(copy: Copy, share: float, rng: Rng) -> set[int] | None:
    field = (
        next((f for f in copy.source.spec.state if f.rotation == "quaternion_xyzw"), None) if copy.source.spec else None
    )
    if field is None:
        return None
    state, part = copy.column(STATE), copy.part(STATE, field.name)
    assert part is not None
    for number in (chosen := _some(copy, share, rng)):
        rows = copy.episodes[number]
        state[rows, part] = np.roll(state[rows, part], 1, axis=1)
    copy.put(STATE, state)
    return set(chosen)


def degrees(copy: Copy, share: float, rng: Rng) -> set[int] | None:
    spec = copy.source.spec
    fields = [(STATE, f) for f in spec.state if f.unit == "rad"] if spec else []
    fields += [(ACTION, f) for f in spec.action.fields if f.unit == "rad"] if spec else []
    if not fields:
        return None
    key, field = fields[int(rng.integers(len(fields)))]
    values, part = copy.column(key), copy.part(key, field.name)
    assert part is not None
    for number in (chosen := _some(copy, share, rng)):
        values[copy.episodes[number], part] *= 180 / np.pi
    copy.put(key, values)
    return set(chosen)


def gripper(copy: Copy, share: float, rng: Rng) -> set[int] | None:
    names = copy.source.names(ACTION)
    entry = next((i for i, name in enumerate(names) if "gripper" in name), None)
    if entry is None:
        return None
    action = copy.column(ACTION)
    low, high = action[:, entry].min(), action[:, entry].max()
    for number in (chosen := _some(copy, share, rng)):
        rows = copy.episodes[number]
        action[rows, entry] = low + high - action[rows, entry]
    copy.put(ACTION, action)
    return set(chosen)


def bgr(copy: Copy, share: float, rng: Rng) -> set[int] | None:
    if not copy.pictures:
        return None
    key = str(rng.choice(list(copy.pictures)))
    for number in (chosen := _some(copy, share, rng)):
        rows = copy.episodes[number]
        copy.pictures[key][rows] = copy.pictures[key][rows][..., ::-1].copy()
    copy.changed.add(key)
    return set(chosen)


def lag(copy: Copy, severity: float, rng: Rng) -> set[int] | None:
    """The whole dataset, by up to half a second either way."""
    steps = max(1, round(severity * 0.5 * copy.fps)) * int(rng.choice([-1, 1]))
    action = copy.column(ACTION)
    for rows in copy.episodes.values():
        index = np.clip(np.arange(rows.stop - rows.start) + steps, 0, rows.stop - rows.start - 1)
        action[rows] = action[rows][index]
    copy.put(ACTION, action)
    return set()


def stuck_camera(copy: Copy, share: float, rng: Rng) -> set[int] | None:
    return _camera(copy, share, rng, lambda images, start, stop: images[start - 1])


def black_camera(copy: Copy, share: float, rng: Rng) -> set[int] | None:
    return _camera(copy, share, rng, lambda images, start, stop: np.zeros_like(images[start]))


def _camera(copy: Copy, share: float, rng: Rng, show: Callable[[np.ndarray, int, int], np.ndarray]) -> set[int] | None:
    if not copy.pictures:
        return None
    key = str(rng.choice(list(copy.pictures)))
    number, start, stop = _stretch(copy, share, rng)
    copy.pictures[key][start:stop] = show(copy.pictures[key], start, stop)
    copy.changed.add(key)
    return {number}


def duplicated(copy: Copy, share: float, rng: Rng) -> set[int] | None:
    number, start, stop = _stretch(copy, 0.3 * share, rng)
    rows = np.arange(len(copy.table))
    copy.select(np.concatenate([rows[:start], np.full(stop - start, start - 1), rows[start:]]))
    return {number}


def dropped(copy: Copy, share: float, rng: Rng) -> set[int] | None:
    number, start, stop = _stretch(copy, 0.3 * share, rng)
    copy.select(np.delete(np.arange(len(copy.table)), np.arange(start, stop)))
    return {number}


def timestamps(copy: Copy, severity: float, rng: Rng) -> set[int] | None:
    """One frame late, by up to a period."""
    number, start, stop = _stretch(copy, 1.0, rng)
    times = copy.table["timestamp"].to_numpy().copy()
    times[int(rng.integers(start, stop))] += severity / copy.fps
    copy.table["timestamp"] = times
    return {number}


def not_finite(copy: Copy, share: float, rng: Rng) -> set[int] | None:
    key = str(rng.choice([STATE, ACTION]))
    values = copy.column(key)
    number, start, stop = _stretch(copy, share, rng)
    values[start:stop, int(rng.integers(values.shape[1]))] = float(rng.choice([np.nan, np.inf]))
    copy.put(key, values)
    return {number}


def jump(copy: Copy, severity: float, rng: Rng) -> set[int] | None:
    """One measured entry, in one frame, by up to its whole range; one that moves about as much as the others do."""
    state = copy.column(STATE)
    number, start, stop = _stretch(copy, 1.0, rng)
    spread = np.ptp(state, axis=0)
    entries = [
        i for i, n in enumerate(copy.source.names(STATE)) if "gripper" not in n and spread[i] > 0.5 * np.median(spread)
    ]
    entry = int(rng.choice(entries))
    state[int(rng.integers(start, stop)), entry] += severity * np.ptp(state[:, entry]) * rng.choice([-1, 1])
    copy.put(STATE, state)
    return {number}


def constant(copy: Copy, share: float, rng: Rng) -> set[int] | None:
    """One measured entry hangs, for a share of one episode."""
    state = copy.column(STATE)
    number, start, stop = _stretch(copy, share, rng)
    entries = [i for i, name in enumerate(copy.source.names(STATE)) if "gripper" not in name]
    entry = int(rng.choice(entries))
    state[start:stop, entry] = state[start, entry]
    copy.put(STATE, state)
    return {number}


def statistics(copy: Copy, severity: float, rng: Rng) -> set[int] | None:
    """A mean off by up to one standard deviation."""
    copy.fresh_stats = False
    key = str(rng.choice([STATE, ACTION]))
    mean, std = (np.array(copy.stats[key][name], float) for name in ("mean", "std"))
    mean[int(rng.integers(mean.size))] += severity * float(std.max())
    copy.stats[key]["mean"] = list(mean)
    return set()


def text(copy: Copy, share: float, rng: Rng) -> set[int] | None:
    tasks = copy.tasks.index.name == "task" or "task" not in copy.tasks.columns
    if tasks:
        copy.tasks = copy.tasks.reset_index(names="task")
    blank = int(copy.tasks["task_index"].max()) + 1
    copy.tasks.loc[len(copy.tasks)] = {"task": "", "task_index": blank}
    numbers = copy.table["task_index"].to_numpy().copy()
    for number in (chosen := _some(copy, share, rng)):
        numbers[copy.episodes[number]] = blank
    copy.table["task_index"] = numbers
    return set(chosen)


def video_frames(copy: Copy, share: float, rng: Rng) -> set[int] | None:
    """A video that ends early by a share of its last episode."""
    videos = [key for key in copy.pictures if copy.info["features"][key]["dtype"] == "video"]
    if not videos:
        return None
    key = str(rng.choice(videos))
    last = max(copy.episodes)
    rows = copy.episodes[last]
    copy.pictures[key] = copy.pictures[key][: -max(1, round(share * (rows.stop - rows.start - 1)))]
    copy.changed.add(key)
    return {last}


def robot_spec(copy: Copy, severity: float, rng: Rng) -> set[int] | None:
    """One of: the rate, a field's size, a camera's size or name is another in robot_spec.yaml."""
    if copy.spec is None:
        return None
    change = int(rng.integers(3))
    if change == 0:
        copy.spec["rate_hz"] = copy.spec["rate_hz"] + max(1, round(severity * 10))
    elif change == 1:
        copy.spec["cameras"][0]["height"] += max(1, round(severity * 100))
    else:
        copy.spec["cameras"][0]["name"] += "_2"
    return set()


DEFECTS = (
    Defect("quaternion order", ("quaternion order",), quaternion, "{:.0%} of the episodes"),
    Defect("degrees", ("degrees", "jump", "spec"), degrees, "{:.0%} of the episodes"),
    Defect("inverted gripper", ("gripper",), gripper, "{:.0%} of the episodes"),
    Defect("BGR", ("colour order",), bgr, "{:.0%} of the episodes"),
    Defect("lag", ("lag",), lag, "{:.0%} of 0.5 s"),
    Defect("stuck camera", ("stuck camera",), stuck_camera, "{:.0%} of an episode"),
    Defect("black camera", ("black camera",), black_camera, "{:.0%} of an episode"),
    Defect("duplicated frames", ("duplicated frames",), duplicated, "{:.0%} of 0.3 episode"),
    Defect("dropped frames", ("dropped frames", "jump"), dropped, "{:.0%} of 0.3 episode"),
    Defect("timestamps", ("timestamps",), timestamps, "{:.0%} of a period"),
    Defect("NaN or inf", ("not finite",), not_finite, "{:.0%} of an episode"),
    Defect("jump", ("jump", "spec"), jump, "{:.0%} of its range"),
    Defect("stuck entry", ("constant",), constant, "{:.0%} of an episode"),
    Defect("statistics", ("stats",), statistics, "{:.0%} of a standard deviation"),
    Defect("missing text", ("text",), text, "{:.0%} of the episodes"),
    Defect("video frames", ("frame count",), video_frames, "{:.0%} of an episode"),
    Defect("robot spec", ("spec",), robot_spec, "-"),
)


def _frame(root: Path, pattern: str) -> Any:
    import pandas as pd

    return pd.concat([pd.read_parquet(file) for file in sorted(root.glob(pattern))])


def _png(image: NDArray[np.uint8]) -> bytes:
    import cv2

    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()
