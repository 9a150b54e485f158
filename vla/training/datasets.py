"""What the folders given to `vla train` hold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla import assets
from vla.data.cache import LABEL_COLUMNS, FrameCache, build_cache, source_of
from vla.data.lerobot_v3 import read_info
from vla.errors import UserError
from vla.spec import RobotSpec


@dataclass(frozen=True)
class Data:
    """Folders: of still scenes, and of episodes (LeRobot datasets or their caches) with the weight of each."""

    stills: tuple[Path, ...]
    episodes: tuple[Path, ...]
    weights: tuple[float, ...]


def find_datasets(datasets: Sequence[Path], weights: Sequence[float]) -> Data:
    """What the folders hold; UserError names one that holds nothing to train on."""
    stills: list[Path] = []
    episodes: list[tuple[Path, float]] = []
    for folder, weight in zip(datasets, weights, strict=True):
        if _is_dataset(folder) or (folder / "episode.npy").is_file() or (folder / "cache" / "episode.npy").is_file():
            episodes.append((folder, weight))
        elif (folder / "words.jsonl").is_file():
            if weight != 1:
                raise UserError(f"dataset {folder}: still scenes are not weighted; give it without :{weight:g}")
            stills.append(folder)
        else:
            raise UserError(f"dataset {folder}: neither LeRobot episodes nor still scenes; make some with vla collect")
    return Data(tuple(stills), tuple(folder for folder, _ in episodes), tuple(weight for _, weight in episodes))


def open_cache(folder: Path) -> FrameCache:
    """Of a LeRobot dataset, built if need be, or a cache itself."""
    return build_cache(folder) if _is_dataset(folder) else FrameCache.open(folder)


def content_of(folder: Path, data: Data) -> Any:
    """What changes with the episodes or still scenes in one of the folders of `data`."""
    if folder in data.stills:
        made = hashlib.sha256((folder / "meta.json").read_bytes()).hexdigest()
        return {"sha256": made, "words": (folder / "words.jsonl").stat().st_size}
    if _is_dataset(folder):
        return source_of(folder)
    return FrameCache.open(folder).meta.get("source")


def says_who_drove(folder: Path) -> bool:
    """Whether the dataset or cache tells a person's frames from a policy's."""
    if _is_dataset(folder):
        return LABEL_COLUMNS["person"] in read_info(folder)["features"]
    return bool(np.isfinite(FrameCache.open(folder).person).any())


def spec_of(folder: Path) -> RobotSpec:
    """Of a dataset or cache; UserError if it has none or no camera."""
    file = assets.find("robot", folder.resolve())
    spec = RobotSpec.load(file)
    if not spec.cameras:
        raise UserError(f"{file}: no cameras, and neither S1 nor S2 can do without")
    return spec


def _is_dataset(folder: Path) -> bool:
    """Of LeRobot's form, not a training cache."""
    return (folder / "meta" / "info.json").is_file()
