"""A dataset directory as TensorFlow Datasets writes it: features.json, dataset_info.json and TFRecord shards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.data.rlds.example import Feature, parse_example
from vla.data.rlds.features import Leaf, read_features
from vla.data.rlds.tfrecord import Record, read_records
from vla.errors import UserError

TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
"""TFDS' usual name of a shard."""


@dataclass(frozen=True)
class Shard:
    """One file of `episodes` records, the first of which is episode `start` of the directory."""

    path: Path
    start: int
    episodes: int


@dataclass(frozen=True)
class RawEpisode:
    """The features of one episode as stored; `where` names shard and byte."""

    features: Mapping[str, Leaf]
    example: Mapping[str, Feature]
    where: str

    def read(self, path: str) -> Any:
        """The value of one feature, as `Leaf.read` gives it; UserError names shard and byte."""
        try:
            return self.features[path].read(self.example)
        except ValueError as error:
            raise self.error(str(error)) from None

    def error(self, what: str) -> UserError:
        return UserError(f"rlds: {self.where}: {what}")


@dataclass(frozen=True)
class TfdsDirectory:
    """The splits of a directory, one after the other, each episode a record."""

    root: Path
    name: str
    version: str
    splits: tuple[str, ...]
    features: Mapping[str, Leaf]
    shards: tuple[Shard, ...]

    @classmethod
    def open(cls, root: Path, split: str | None = None) -> TfdsDirectory:
        """One split, or all. Raises UserError if a file is missing or the directory is no RLDS dataset."""
        if not root.is_dir():
            raise UserError(f"rlds: no folder {root}")
        if not (root / "features.json").exists():
            inner = sorted(path.parent.name for path in root.glob("*/features.json"))
            if inner:
                raise UserError(f"rlds: {root} has no features.json; give a version inside it: {', '.join(inner)}")
        features = read_features(root / "features.json")
        if not any(path.startswith("steps/") for path in features):
            raise UserError(f"rlds: {root / 'features.json'} names no steps, so this is no RLDS dataset")
        info = _read_info(root / "dataset_info.json")
        try:
            found = {item["name"]: item for item in info["splits"]}
            if split and split not in found:
                raise UserError(f"rlds: {root} has no split {split!r}; it has {', '.join(found) or 'none'}")
            chosen = [found[split]] if split else list(found.values())
            shards = tuple(_shards(root, info, chosen))
            names = tuple(item["name"] for item in chosen)
            directory = cls(root, info["name"], info.get("version", ""), names, features, shards)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"rlds: {root / 'dataset_info.json'} is not what TFDS writes ({error!r})") from None
        directory._check()
        return directory

    @property
    def episodes(self) -> int:
        return sum(shard.episodes for shard in self.shards)

    def read(self, start: int, stop: int) -> Iterator[RawEpisode]:
        """Episodes start, ..., stop - 1. Raises UserError with shard and byte of the first that is damaged."""
        for shard in self.shards:
            first, last = max(start - shard.start, 0), min(stop - shard.start, shard.episodes)
            if first >= last:
                continue
            for record in read_records(shard.path, first, last, last == shard.episodes):
                yield RawEpisode(self.features, _parse(record), record.where)

    def _check(self) -> None:
        missing = [shard.path for shard in self.shards if not shard.path.is_file()]
        if missing:
            more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UserError(f"rlds: shard {missing[0]} is missing{more}")
        if not self.episodes:
            raise UserError(f"rlds: {self.root} holds no episodes")


def _parse(record: Record) -> dict[str, Feature]:
    try:
        return parse_example(record.data)
    except ValueError as error:
        raise UserError(f"rlds: {record.where}: this record is no tf.train.Example ({error})") from None


def _read_info(file: Path) -> dict[str, Any]:
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        form = info.get("fileFormat", "tfrecord")
    except FileNotFoundError:
        raise UserError(f"rlds: {file} does not exist; it says which shards there are") from None
    except OSError as error:
        raise UserError(f"rlds: cannot read {file}: {error.strerror}") from None
    except (ValueError, AttributeError) as error:
        raise UserError(f"rlds: {file} is not what TFDS writes ({error})") from None
    if form != "tfrecord":
        raise UserError(f"rlds: {file} says its files are {form}; only tfrecord can be read")
    return info


def _shards(root: Path, info: Mapping[str, Any], splits: list[Mapping[str, Any]]) -> Iterator[Shard]:
    start = 0
    for split in splits:
        lengths = [int(length) for length in split["shardLengths"]]
        for index, length in enumerate(lengths):
            name = split.get("filepathTemplate", TEMPLATE).format(
                DATASET=info["name"],
                SPLIT=split["name"],
                FILEFORMAT="tfrecord",
                SHARD_INDEX=f"{index:05d}",
                NUM_SHARDS=f"{len(lengths):05d}",
                SHARD_X_OF_Y=f"{index:05d}-of-{len(lengths):05d}",
            )
            yield Shard(root / name, start, length)
            start += length
