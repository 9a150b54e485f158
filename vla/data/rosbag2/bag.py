"""A recorded bag: its topics and its messages in the order they were logged, MCAP or sqlite3, whole or damaged."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla.data.rosbag2.salvage import mend_mcap, read_sqlite
from vla.errors import UserError
from vla.ros_types import MessageTypes

Message = tuple[str, int, Any]
"""Topic, log time (ns), message."""


@dataclass
class Bag:
    """topics: name -> type. damage: what could not be read, in words; `messages` adds to it."""

    path: Path
    topics: dict[str, str]
    types: MessageTypes
    damage: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path) -> Bag:
        """path: one of `bags`. Raises UserError if nothing in it is whole."""
        try:
            return cls._whole(path)
        except Exception as error:  # what readers raise at bytes that are not as they should be is anyone's guess
            reason = str(error) or type(error).__name__
        topics = {topic: kind for topic, kind, _, _ in _salvaged(path)}
        if not topics:
            raise UserError(f"rosbag2: {path} cannot be read, and nothing in it is whole: {reason}")
        return cls(path, topics, MessageTypes(), [f"{path} is damaged ({reason}): only its whole messages are used"])

    @classmethod
    def _whole(cls, path: Path) -> Bag:
        from rosbags.highlevel import AnyReader

        with AnyReader([path], default_typestore=MessageTypes().store) as reader:
            # Damage shows only where one looks.
            for _ in reader.messages():
                pass
            return cls(path, {c.topic: c.msgtype for c in reader.connections}, MessageTypes(store=reader.typestore))

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """Messages of `topics`; one that is not what its type says is left out, and counted in `damage`."""
        broken: Counter[str] = Counter()
        for topic, kind, time, data in _salvaged(self.path) if self.damage else self._records(topics):
            if topic not in topics:
                continue
            try:
                yield topic, time, self.types.from_cdr(data, kind)
            except ValueError:
                broken[f"{topic} ({kind})"] += 1
        self.damage += [f"{self.path}: {count} messages on {name} are broken" for name, count in broken.items()]

    def _records(self, topics: Collection[str]) -> Iterator[tuple[str, str, int, bytes]]:
        from rosbags.highlevel import AnyReader

        with AnyReader([self.path], default_typestore=MessageTypes().store) as reader:
            wanted = [connection for connection in reader.connections if connection.topic in topics]
            for connection, time, data in reader.messages(wanted) if wanted else ():
                yield connection.topic, connection.msgtype, time, bytes(data)


def _salvaged(path: Path) -> Iterator[tuple[str, str, int, bytes]]:
    from rosbags.rosbag2 import Reader

    for storage in storages(path):
        if storage.suffix == ".db3":
            yield from read_sqlite(storage)
            continue
        with tempfile.TemporaryDirectory(prefix="vla-rosbag2-") as folder:
            mended = Path(folder) / storage.name
            try:
                mend_mcap(storage, mended)
                with Reader(mended) as reader:
                    for connection, time, data in reader.messages():
                        yield connection.topic, connection.msgtype, time, bytes(data)
            except Exception:  # as above
                continue


def bags(path: Path) -> list[Path]:
    """The bag that `path` is, or those in the folders it holds, by their names. Raises UserError if there is none."""
    if not path.exists():
        raise UserError(f"rosbag2: {path} does not exist")
    if not path.is_dir() or storages(path):
        return [path]
    found = sorted(one for one in path.iterdir() if one.is_dir() and storages(one))
    if not found:
        raise UserError(f"rosbag2: {path} holds no .mcap or .db3 file, nor does a folder in it")
    return found


def storages(path: Path) -> list[Path]:
    """The files of a bag in the order they were written."""
    if not path.is_dir():
        return [path]
    return sorted((one for one in path.iterdir() if one.suffix in (".mcap", ".db3")), key=_number)


def _number(storage: Path) -> tuple[int, str]:
    """The number at the end of a split bag's file, which is not padded."""
    number = re.search(r"\d+$", storage.stem)
    return int(number[0]) if number else -1, storage.name
