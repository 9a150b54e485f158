"""One episode of an HDF5 file, read by the keys of a card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vla.data.convert import Pictures, Text, decode_image
from vla.data.hdf5.layout import EpisodePlace, reading
from vla.errors import UserError

BLOCK = 64
"""Pictures kept at most, where HDF5 stores several steps in one compressed piece."""


@dataclass(frozen=True)
class Hdf5Episode:
    """Keys are paths of datasets inside the episode; for text and truth values, or of attributes (see `attribute`).

    Good while the file is open. instruction: what is done, where the file does not say it.
    """

    handle: h5py.File
    place: EpisodePlace
    instruction: str = ""

    def values(self, key: str) -> NDArray[Any]:
        dataset = self.numbers(key)
        with self._reading(key):
            return dataset[()]

    def numbers(self, key: str) -> h5py.Dataset:
        """A dataset of numbers, a row per step."""
        dataset = self._dataset(key)
        if dataset.dtype.kind not in "biuf" or dataset.ndim < 1:
            raise self.error(f"{key} is not numbers, a row per step, but {dataset.dtype}, {dataset.shape}")
        return dataset

    def pictures(self, key: str) -> Pictures:
        dataset = self._dataset(key)
        if dataset.dtype == np.uint8 and dataset.ndim == 4 and dataset.shape[-1] == 3:
            return Hdf5Pictures(dataset, self.place, encoded=False)
        if dataset.ndim == 1 + (dataset.dtype == np.uint8) and dataset.dtype.kind in "uSO":
            return Hdf5Pictures(dataset, self.place, encoded=True)
        raise self.error(
            f"{key} is no pictures, (T, height, width, 3) uint8 or JPEG or PNG each, "
            f"but {dataset.dtype}, {dataset.shape}"
        )

    def text(self, key: str) -> bytes | Sequence[Text]:
        if isinstance(self._get(key), h5py.Dataset):
            with self._reading(key):
                value = self._dataset(key)[()]
            if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "SO":
                value = value.item()
            return list(value) if isinstance(value, np.ndarray) else _bytes(value)
        value = self.attribute(key)
        if value is None and not self.instruction:
            raise self.error(f"no dataset or attribute says {key}; say what is done with --instruction TEXT")
        # LIBERO keeps some in a list, and in quotes.
        return b"" if value is None else _bytes("".join(value) if isinstance(value, list) else value).strip(b' "')

    def truth(self, key: str) -> bool:
        value = self.attribute(key)
        if value is None:
            dataset = self._dataset(key)
            with self._reading(key):
                value = dataset[()]
        return bool(np.all(value))

    def attribute(self, key: str) -> Any:
        """Of the episode or the nearest group above it; None if there is none.

        What follows a `/` in the key leads into an attribute that is JSON.
        """
        name, *steps = key.split("/")
        with self._reading(key):
            group = self.handle[self.place.group]
            while name not in group.attrs and group.name != "/":
                group = group.parent
            value = group.attrs.get(name)
            value = value.decode() if isinstance(value, bytes) else value
        if value is None or not steps:
            return value
        try:
            value = json.loads(value)
            for step in steps:
                value = value[step]
        except (ValueError, KeyError, TypeError):
            raise self.error(f"attribute {name} of {group.name} is not JSON with {'/'.join(steps)} in it") from None
        return value

    def error(self, what: str) -> UserError:
        inside = "" if self.place.group == "/" else f", {self.place.group}"
        return UserError(f"hdf5: {self.place.file}{inside}: {what}")

    def _dataset(self, key: str) -> h5py.Dataset:
        dataset = self._get(key)
        if isinstance(dataset, h5py.Dataset):
            return dataset
        there: list[str] = []
        with self._reading(key):
            group = self.handle[self.place.group]
            group.visititems(lambda name, item: there.append(name) if isinstance(item, h5py.Dataset) else None)
        raise UserError(
            f"hdf5: {self.place.file}, {self.place.inside(key)}: no such dataset; "
            f"there are: {', '.join(there) or 'none'}"
        )

    def _get(self, key: str) -> Any:
        with self._reading(key):
            return self.handle[self.place.group].get(key)

    def _reading(self, key: str) -> Any:
        return reading(self.place.file, self.place.inside(key))


class Hdf5Pictures:
    """Read in the pieces in which HDF5 stores them. encoded: JPEG or PNG each, zeros after it.

    ALOHA's `compress_len`, the length of each without the zeros, is not needed to decode them.
    """

    def __init__(self, dataset: h5py.Dataset, place: EpisodePlace, encoded: bool) -> None:
        self._dataset, self._place, self._encoded = dataset, place, encoded
        self._stored = min(dataset.chunks[0], BLOCK) if dataset.chunks else 1
        self._start, self._block = 0, dataset[:0]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, step: int) -> NDArray[np.uint8]:
        if not self._start <= step < self._start + len(self._block):
            self._start = step - step % self._stored
            with reading(self._place.file, self._dataset.name):
                self._block = self._dataset[self._start : self._start + self._stored]
        item = self._block[step - self._start]
        return decode_image(bytes(item)) if self._encoded else item


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
