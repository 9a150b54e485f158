"""A take on disk while it is being recorded: fast to write, whole or not there, and no dataset yet.

A folder holds `rows.bin` (one fixed-size record a control step), a file of pictures per camera, and, once the take is
kept, `take.json`. Small pictures are kept as they are; large ones as JPEG without subsampled colour.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vla.jpeg import encode_jpeg
from vla.spec import Camera, RobotSpec

Driver = Literal["person", "policy", "nobody"]
DRIVERS: tuple[Driver, ...] = ("nobody", "person", "policy")

RAW_PIXELS = 256 * 256
"""Pictures of up to so many pixels are not compressed: 8 MB/s for two of them at 20 Hz."""
JPEG_QUALITY = 95
ABOUT = "take.json"
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class LiveFrame:
    """One control step of a robot under way.

    images: camera -> (H, W, 3) uint8 RGB. state (S,). commanded (A,): as asked for; applied (A,): as the robot took it.
    captured: stream (a camera, or "state") -> when it was captured; decided: when the command was; both in seconds on
    `time.monotonic`. intervention: a person drove although the policy was on.
    """

    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    commanded: NDArray[np.float32]
    applied: NDArray[np.float32]
    captured: Mapping[str, float]
    decided: float
    driver: Driver
    intervention: bool


@dataclass(frozen=True)
class Take:
    """What is known of a recorded episode. number: unique in its dataset. dropped: control steps that were lost because
    the disk was too slow. started: UTC, ISO 8601. policy: the one at hand, "" if none.
    """

    number: int
    task: str
    success: bool
    frames: int
    dropped: int
    interventions: int
    operator: str
    device: str
    started: str
    policy: str = ""


def streams(spec: RobotSpec) -> tuple[str, ...]:
    return (*spec.camera_names, "state")


def row_type(spec: RobotSpec) -> np.dtype[Any]:
    """How a control step lies in `rows.bin`."""
    return np.dtype(
        [
            ("state", "<f4", (spec.state_size,)),
            ("commanded", "<f4", (spec.action_size,)),
            ("applied", "<f4", (spec.action_size,)),
            ("captured", "<f8", (len(streams(spec)),)),
            ("decided", "<f8"),
            ("driver", "u1"),
            ("intervention", "?"),
        ]
    )


class SpoolWriter:
    """Appends control steps to a new folder; OSError if the disk is full. `keep` makes it a take."""

    def __init__(self, folder: Path, spec: RobotSpec) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.frames = self.interventions = 0
        self._spec, self._type = spec, row_type(spec)
        self._open = ExitStack()
        self._rows, *pictures = _open_files(self._open, folder, spec, "wb")
        self._pictures = dict(zip(spec.camera_names, pictures, strict=True))
        self._packed: dict[str, tuple[NDArray[np.uint8], bytes]] = {}

    def add(self, frame: LiveFrame) -> None:
        for camera in self._spec.cameras:
            data = self._once_packed(camera, frame.images[camera.name])
            file = self._pictures[camera.name]
            file.write(_LENGTH.pack(len(data)))
            file.write(data)
        row = np.zeros(1, self._type)
        row["state"], row["commanded"], row["applied"] = frame.state, frame.commanded, frame.applied
        row["captured"] = [frame.captured[name] for name in streams(self._spec)]
        row["decided"], row["intervention"] = frame.decided, frame.intervention
        row["driver"] = DRIVERS.index(frame.driver)
        self._rows.write(row.tobytes())
        self.frames += 1
        self.interventions += frame.intervention

    def _once_packed(self, camera: Camera, image: NDArray[np.uint8]) -> bytes:
        """A picture that several control steps saw is packed once: cameras are slower than robots."""
        seen, data = self._packed.get(camera.name, (None, b""))
        if image is not seen:
            data = _pack(camera, image)
            self._packed[camera.name] = image, data
        return data

    def keep(self, take: Take, as_folder: Path) -> None:
        """Everything to the disk, and only then, in one step, under its name."""
        for file in (self._rows, *self._pictures.values()):
            file.flush()
            os.fsync(file.fileno())
        with open(self.folder / ABOUT, "w", encoding="utf-8") as about:
            json.dump(asdict(take), about)
            about.flush()
            os.fsync(about.fileno())
        self.close()
        self.folder.rename(as_folder)
        sync_folder(as_folder.parent)

    def close(self) -> None:
        self._open.close()


def read_take(folder: Path) -> Take:
    return Take(**json.loads((folder / ABOUT).read_text(encoding="utf-8")))


def read_frames(folder: Path, spec: RobotSpec) -> Iterator[LiveFrame]:
    """The control steps of a take, one after the other."""
    rows = np.fromfile(folder / "rows.bin", row_type(spec))
    with ExitStack() as stack:
        _, *pictures = _open_files(stack, folder, spec, "rb")
        files = dict(zip(spec.camera_names, pictures, strict=True))
        for row in rows:
            yield LiveFrame(
                images={camera.name: _unpack(camera, files[camera.name]) for camera in spec.cameras},
                state=row["state"].copy(),
                commanded=row["commanded"].copy(),
                applied=row["applied"].copy(),
                captured=dict(zip(streams(spec), map(float, row["captured"]), strict=True)),
                decided=float(row["decided"]),
                driver=DRIVERS[row["driver"]],
                intervention=bool(row["intervention"]),
            )


def sync_folder(folder: Path) -> None:
    """A rename is on the disk when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _open_files(stack: ExitStack, folder: Path, spec: RobotSpec, mode: str) -> list[IO[Any]]:
    """The rows' file and each camera's; they are closed with the stack."""
    names = ["rows.bin", *(f"{name}.pictures" for name in spec.camera_names)]
    return [stack.enter_context(open(folder / name, mode)) for name in names]


def _is_raw(camera: Camera) -> bool:
    return camera.height * camera.width <= RAW_PIXELS


def _pack(camera: Camera, image: NDArray[np.uint8]) -> bytes:
    if _is_raw(camera):
        return np.ascontiguousarray(image).tobytes()
    return encode_jpeg(image, JPEG_QUALITY, whole_colour=True)


def _unpack(camera: Camera, file: IO[Any]) -> NDArray[np.uint8]:
    (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
    data = np.frombuffer(file.read(length), np.uint8)
    if _is_raw(camera):
        return data.reshape(camera.height, camera.width, 3)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)
