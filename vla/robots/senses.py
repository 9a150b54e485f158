"""What a robot senses, in shared memory: whoever has cameras and joints writes, any process of the runtime reads.

Every item carries its capture time on `time.monotonic`. Items of different streams are put together by those times:
images travel longer than joint positions, and a state that is newer than the image beside it is one that no policy was
trained on.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.processes import SPAWN
from vla.robots.base import Observation
from vla.shared_slot import Slot, slot_memory
from vla.spec import RobotSpec

_STAMP = struct.Struct("<d")
STATE_PLACES = 128
"""States that can be looked back at: 0.64 s at 200 Hz, longer than an image travels."""


@dataclass(frozen=True)
class SenseMemory:
    """cameras: one slot per camera. states: a slot of STATE_PLACES. For the processes that write and read."""

    cameras: Mapping[str, Any]
    states: Any

    @classmethod
    def of(cls, spec: RobotSpec) -> SenseMemory:
        cameras = {one.name: slot_memory(SPAWN, _STAMP.size + one.height * one.width * 3) for one in spec.cameras}
        return cls(cameras, slot_memory(SPAWN, _STAMP.size + 4 * spec.state_size, STATE_PLACES))


class CameraWriter:
    def __init__(self, memory: SenseMemory, camera: str) -> None:
        self._slot = Slot(memory.cameras[camera])

    def put(self, stamp: float, image: NDArray[np.uint8]) -> None:
        """image: (H, W, 3), as the spec has the camera."""
        self._slot.put(_STAMP.pack(stamp) + np.ascontiguousarray(image).tobytes())


class StateWriter:
    def __init__(self, memory: SenseMemory) -> None:
        self._slot = Slot(memory.states, STATE_PLACES)

    def put(self, stamp: float, state: NDArray[np.float32]) -> None:
        """state: (S,) in the spec's units."""
        self._slot.put(_STAMP.pack(stamp) + np.asarray(state, "<f4").tobytes())


class StateReader:
    def __init__(self, memory: SenseMemory) -> None:
        self._slot = Slot(memory.states, STATE_PLACES)
        self._newest: tuple[float, NDArray[np.float32]] | None = None

    def newest(self) -> tuple[float, NDArray[np.float32]] | None:
        """Capture time and state (S,), or None if none came since this reader was made."""
        message = self._slot.take()
        if message is not None:
            self._newest = _stamped(message, "<f4")
        return self._newest

    def as_of(self, moment: float) -> NDArray[np.float32] | None:
        """The newest state captured at `moment` or before; the oldest held if all are later, None if there are none."""
        held = self._slot.held()
        before = (message for message in reversed(held) if _STAMP.unpack_from(message)[0] <= moment)
        found = next(before, held[0] if held else None)
        return None if found is None else _stamped(found, "<f4")[1]


class Senses:
    """A reader of everything, or of some cameras only."""

    def __init__(self, spec: RobotSpec, memory: SenseMemory, cameras: Sequence[str] | None = None) -> None:
        names = spec.camera_names if cameras is None else tuple(cameras)
        self._cameras = {name: spec.camera(name) for name in names}
        self._slots = {name: Slot(memory.cameras[name]) for name in names}
        self._frames: dict[str, tuple[float, NDArray[np.uint8]]] = {}
        self._states = StateReader(memory)
        self._newest: Observation | None = None

    def observe(self) -> Observation | None:
        """The newest image of every camera, and the state as it was at the time of the oldest of them, its `stamp`.

        None until there is one of each.
        """
        come = {name: message for name, slot in self._slots.items() if (message := slot.take()) is not None}
        if come or self._newest is None:
            self._newest = self._put_together(come)
        return self._newest

    def dark(self) -> dict[str, NDArray[np.uint8]]:
        """A black image (H, W, 3) of every camera."""
        return {name: np.zeros((one.height, one.width, 3), np.uint8) for name, one in self._cameras.items()}

    def _put_together(self, come: Mapping[str, bytes]) -> Observation | None:
        for name, message in come.items():
            stamp, pixels = _stamped(message, np.uint8)
            self._frames[name] = stamp, pixels.reshape(self._cameras[name].height, self._cameras[name].width, 3)
        if len(self._frames) < len(self._slots):
            return None
        stamp = min(stamp for stamp, _ in self._frames.values())
        state = self._states.as_of(stamp)
        if state is None:
            return None
        return Observation({name: image for name, (_, image) in self._frames.items()}, state, stamp)


def _stamped(message: bytes, kind: Any) -> tuple[float, NDArray[Any]]:
    return _STAMP.unpack_from(message)[0], np.frombuffer(message, kind, offset=_STAMP.size)
