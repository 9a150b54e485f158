"""Where the episodes of HDF5 files are.

robomimic's layout, which is LIBERO's too: a file of many, each a group of `data`, and in `mask` lists of their names.
ACT's layout, which is ALOHA's: a file for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from vla.errors import UserError

SUFFIXES = (".hdf5", ".h5")


@dataclass(frozen=True)
class EpisodePlace:
    """One episode: a group of a file."""

    file: Path
    group: str

    def inside(self, key: str) -> str:
        return f"{self.group.rstrip('/')}/{key}"


def find_episodes(path: Path, mask: str | None = None) -> tuple[EpisodePlace, ...]:
    """All episodes of a file, or of the files of a folder, in the order of the numbers in their names.

    mask: only those that it lists. Raises UserError for what is no HDF5, is cut off, or holds no episode.
    """
    found = tuple(place for file in _files(path) for place in _episodes(file, mask))
    if not found:
        raise UserError(f"hdf5: {path} holds no episodes")
    return found


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = [file for file in path.iterdir() if file.suffix in SUFFIXES]
    if not files:
        inner = sorted({file.parent.name for suffix in SUFFIXES for file in path.glob(f"*/*{suffix}")})
        hint = f"; give a folder inside it: {', '.join(inner)}" if inner else ""
        raise UserError(f"hdf5: {path} has no .hdf5 files{hint}")
    return sorted(files, key=lambda file: _natural(file.name))


def _episodes(file: Path, mask: str | None) -> list[EpisodePlace]:
    with opened(file) as handle, reading(file):
        data = handle.get("data")
        if not isinstance(data, h5py.Group):
            if mask:
                raise UserError(f"hdf5: {file} is one episode and has no mask {mask!r}")
            return [EpisodePlace(file, "/")]
        names = [name for name in data if isinstance(data.get(name), h5py.Group)]
        if mask:
            names = _masked(file, handle, mask, names)
        return [EpisodePlace(file, f"/data/{name}") for name in sorted(names, key=_natural)]


def _masked(file: Path, handle: h5py.File, mask: str, names: list[str]) -> list[str]:
    masks = handle.get("mask", {})
    if mask not in masks:
        raise UserError(f"hdf5: {file} has no mask {mask!r}; it has {', '.join(masks) or 'none'}")
    listed = [name.decode() for name in masks[mask][()]]
    if missing := sorted(set(listed) - set(names), key=_natural):
        raise UserError(f"hdf5: {file}, /mask/{mask}: lists {missing[0]}, which is not in /data")
    return listed


@contextmanager
def opened(file: Path) -> Iterator[h5py.File]:
    """Raises UserError if it is no HDF5 file or cut off."""
    with reading(file):
        handle = h5py.File(file, "r")
    with handle:
        yield handle


@contextmanager
def reading(file: Path, inside: str = "") -> Iterator[None]:
    """What HDF5 cannot read becomes one line that names the file and the path inside it."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        detail = re.search(r"\((.*)\)", str(error))
        where = f"{file}, {inside}" if inside else str(file)
        raise UserError(f"hdf5: {where} cannot be read: {detail[1] if detail else error}") from None


def _natural(name: str) -> list[tuple[int, Any]]:
    """demo_10 after demo_9."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name)]
