"""Pictures on disk that training can reach at random: bytes as they are, or one JPEG per frame.

Measured on 256x256 pictures, on one core (`docs/data.md`): copying raw bytes takes a thirtieth of decoding a JPEG, and
a JPEG a sixth of the space. Lossless PNG and WebP decode four times slower than JPEG and save little. So pictures
are raw while they fit the budget, JPEG beyond it. Colour keeps its resolution (4:4:4): with 4:2:0 they lose 4 dB more.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vla.errors import UserError
from vla.jpeg import encode_jpeg

Encoding = Literal["raw", "jpeg"]
QUALITY = 95
ENOUGH = 256
"""Pictures after which the space that all of them will take is guessed well enough to stop early."""


class Pictures(Protocol):
    """uint8 (N, H, W, 3) RGB, indexed by one number or an array of them, as a NumPy array is."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]: ...


class JpegPictures:
    """One JPEG per picture in a single file. Raises UserError for one that does not decode."""

    def __init__(self, folder: Path, name: str, size: tuple[int, int]) -> None:
        self.path = folder / f"{name}.jpeg"
        self._bytes = np.memmap(self.path, np.uint8, "r")
        self._spans = np.load(folder / f"{name}.spans.npy", mmap_mode="r")  # (N, 2): first byte, one past the last
        self.shape = (len(self._spans), *size, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        spans = self._spans[rows]
        if spans.ndim == 1:
            return self._decode(*spans)
        pictures = np.empty((len(spans), *self.shape[1:]), np.uint8)
        for picture, span in zip(pictures, spans, strict=True):
            picture[:] = self._decode(*span)
        return pictures

    def _decode(self, start: int, stop: int) -> NDArray[np.uint8]:
        picture = cv2.imdecode(self._bytes[start:stop], cv2.IMREAD_COLOR_RGB) if stop > start else None
        if picture is None or picture.shape != self.shape[1:]:
            raise UserError(f"training cache: {self.path} is damaged at byte {start}; delete it to build it again")
        return np.asarray(picture, np.uint8)


def open_pictures(folder: Path, name: str, encoding: Encoding, size: tuple[int, int] | None = None) -> Pictures:
    """Those of camera `name` in a cache; OSError or ValueError if they are damaged. size: of JPEGs."""
    if encoding == "raw":
        return np.load(folder / f"{name}.npy", mmap_mode="r")
    assert size is not None
    return JpegPictures(folder, name, size)


Write = Callable[[int, NDArray[np.uint8]], None]


class RawWriter:
    """Writes pictures into an array on disk, in any order."""

    def __init__(self, folder: Path, name: str, shape: tuple[int, int, int, int]) -> None:
        self._array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, shape)

    def write(self, place: int, picture: NDArray[np.uint8]) -> None:
        self._array[place] = picture

    def close(self) -> None:
        self._array.flush()


class JpegWriter:
    """Writes pictures as JPEGs, in any order. budget: bytes they may take; UserError as soon as they will not fit."""

    def __init__(self, folder: Path, name: str, shape: tuple[int, int, int, int], budget: float) -> None:
        self._spans = np.lib.format.open_memmap(folder / f"{name}.spans.npy", "w+", np.int64, (shape[0], 2))
        self._file = open(folder / f"{name}.jpeg", "wb")  # noqa: SIM115
        self.name, self.budget, self.written, self._end = name, budget, 0, 0

    def write(self, place: int, picture: NDArray[np.uint8]) -> None:
        encoded = encode_jpeg(picture, QUALITY, whole_colour=True)
        self._file.write(encoded)
        self._spans[place] = self._end, self._end + len(encoded)
        self._end += len(encoded)
        self.written += 1
        needed = self._end / self.written * len(self._spans)
        if self._end > self.budget or (self.written >= ENOUGH and needed > 1.25 * self.budget):
            raise UserError(
                f"training cache: camera {self.name} would take {needed / 1e9:.3g} GB as JPEG, its share of the budget "
                f"is {self.budget / 1e9:.3g} GB; make room or give a larger budget"
            )

    def close(self) -> None:
        self._file.close()
        self._spans.flush()
