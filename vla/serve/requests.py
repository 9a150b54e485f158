"""What a client may ask, checked before anything is computed.

observation   as openpi's clients send it: `observation.images.<camera>` (or with slashes), `observation.state`,
              `prompt`; answered with {"actions": (H, A), "server_timing": {"infer_ms": ..}, "policy_timing": {..}}
think         {"type": "think", "images", "instruction", "stamp", "instruction_id", "words"}
act           {"type": "act", "images", "state", "thought": {"latents", "stamp", "instruction_id"} or nil, "now",
              "prefix"}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.serve.codec import MessageError

LONGEST_INSTRUCTION = 1000
LARGEST_SIDE = 4096
"""Of an image, in pixels."""

Images = dict[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Expected:
    """What the served policy needs: the cameras of either half, and sizes of state, actions and latents (K, D)."""

    slow_cameras: tuple[str, ...]
    fast_cameras: tuple[str, ...]
    state: int
    action: int
    latents: tuple[int, int]


@dataclass(frozen=True)
class Observe:
    """One step of a client that knows nothing of two speeds."""

    images: Images
    state: NDArray[np.float32]
    instruction: str


@dataclass(frozen=True)
class Think:
    images: Images
    instruction: str
    stamp: float
    instruction_id: int
    words: bool


@dataclass(frozen=True)
class Act:
    """latents (K, D) float32 and their stamp, or None each if there is no thought yet."""

    images: Images
    state: NDArray[np.float32]
    latents: NDArray[np.float32] | None
    stamp: float | None
    instruction_id: int
    now: float
    prefix: NDArray[np.float32]


def read_request(message: Any, expected: Expected) -> Observe | Think | Act:
    """Raises MessageError, naming the entry, for whatever is missing or of the wrong kind, shape or size."""
    if not isinstance(message, Mapping):
        raise MessageError(f"a request is a map, this is {type(message).__name__}")
    kind = message.get("type", "observation")
    if kind == "observation":
        return _observe({str(key).replace("/", "."): value for key, value in message.items()}, expected)
    if kind == "think":
        return Think(
            _images(message.get("images"), expected.slow_cameras),
            _text(message, "instruction"),
            _number(message, "stamp"),
            _whole(message, "instruction_id"),
            bool(message.get("words", False)),
        )
    if kind == "act":
        return _act(message, expected)
    raise MessageError(f"type is {kind!r}: there are observation, think and act")


def _observe(message: Mapping[str, Any], expected: Expected) -> Observe:
    start = "observation.images."
    images = {key.removeprefix(start): value for key, value in message.items() if key.startswith(start)}
    cameras = tuple(dict.fromkeys((*expected.slow_cameras, *expected.fast_cameras)))
    state = _vector(message.get("observation.state"), "observation.state", (expected.state,))
    return Observe(_images(images, cameras, start), state, _text(message, "prompt" if "prompt" in message else "task"))


def _act(message: Mapping[str, Any], expected: Expected) -> Act:
    latents, stamp, number = None, None, 0
    if (thought := message.get("thought")) is not None:
        if not isinstance(thought, Mapping):
            raise MessageError("thought is a map of latents, stamp and instruction_id, or nil")
        latents = _vector(thought.get("latents"), "thought.latents", expected.latents)
        stamp, number = _number(thought, "stamp"), _whole(thought, "instruction_id")
    prefix = message.get("prefix")
    if prefix is None:
        prefix = np.zeros((0, expected.action), np.float32)
    rows = prefix.shape[0] if isinstance(prefix, np.ndarray) and prefix.ndim == 2 else 0
    return Act(
        _images(message.get("images"), expected.fast_cameras),
        _vector(message.get("state"), "state", (expected.state,)),
        latents,
        stamp,
        number,
        _number(message, "now"),
        _vector(prefix, "prefix", (rows, expected.action)),
    )


def _images(found: Any, cameras: tuple[str, ...], start: str = "images.") -> Images:
    if not isinstance(found, Mapping):
        raise MessageError("images is a map from camera to picture")
    for camera in cameras:
        image = found.get(camera)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise MessageError(f"{start}{camera} must be uint8 (height, width, 3) RGB")
        if not 0 < min(image.shape) <= max(image.shape) <= LARGEST_SIDE:
            raise MessageError(f"{start}{camera} is {image.shape[0]} x {image.shape[1]}: at most {LARGEST_SIDE} a side")
    return {camera: found[camera] for camera in cameras}


def _vector(value: Any, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype.kind not in "iuf":
        has = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise MessageError(f"{name} must be an array of {shape}, this is {has}")
    with np.errstate(over="ignore"):
        numbers = value.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise MessageError(f"{name} has a value that is not finite in 32 bits")
    return numbers


def _text(message: Mapping[Any, Any], name: str) -> str:
    text = message.get(name)
    if not isinstance(text, str) or not 0 < len(text) <= LONGEST_INSTRUCTION:
        raise MessageError(f"{name} must be a text of 1 to {LONGEST_INSTRUCTION} characters")
    return text


def _number(message: Mapping[Any, Any], name: str) -> float:
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
        raise MessageError(f"{name} must be a finite number")
    return float(value)


def _whole(message: Mapping[Any, Any], name: str) -> int:
    value = message.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise MessageError(f"{name} must be a whole number")
    return value
