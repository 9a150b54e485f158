"""Messages on the wire: msgpack, with numpy arrays in the form that openpi's clients speak.

An array is a map {b"__ndarray__": true, b"data": bytes, b"dtype": "<f4", b"shape": [..]}, a numpy number
{b"__npgeneric__": true, b"data": number, b"dtype": ".."}. Numbers and booleans only: nothing that could run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

KINDS = "biuf"
"""numpy's kinds of dtype that travel: booleans, integers, floats."""


class MessageError(ValueError):
    """A message that cannot be read or does not say what it must; the text is for the person who sent it."""


def pack(message: Any) -> bytes:
    return msgpack.packb(message, default=_plain)


def unpack(data: bytes) -> Any:
    """Arrays come back read-only, without a copy. Raises MessageError on anything malformed."""
    try:
        return msgpack.unpackb(data, object_hook=_numpy, strict_map_key=False)
    except MessageError:
        raise
    except Exception as error:  # msgpack raises what it likes: its own, ValueError, TypeError, RecursionError
        raise MessageError(f"not a msgpack message: {error or type(error).__name__}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in KINDS:
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic) and value.dtype.kind in KINDS:
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _numpy(found: Mapping[Any, Any]) -> Any:
    if b"__ndarray__" in found:
        return _array(found.get(b"data"), found.get(b"dtype"), found.get(b"shape"))
    if b"__npgeneric__" in found:
        value = found.get(b"data")
        if not isinstance(value, (bool, int, float)):
            raise MessageError("a number's data is no number")
        return _dtype(found.get(b"dtype")).type(value)
    return found


def _array(data: Any, dtype: Any, shape: Any) -> np.ndarray:
    kind = _dtype(dtype)
    if not isinstance(data, bytes) or not isinstance(shape, (list, tuple)):
        raise MessageError("an array needs data (bytes), dtype and shape")
    if not all(isinstance(side, int) and not isinstance(side, bool) and side >= 0 for side in shape):
        raise MessageError(f"an array's shape is {shape!r}")
    if len(data) != math.prod(shape) * kind.itemsize:
        raise MessageError(f"an array of shape {tuple(shape)} and dtype {kind} has {len(data)} bytes")
    return np.frombuffer(data, kind).reshape(shape)


def _dtype(name: Any) -> np.dtype:
    try:
        kind = np.dtype(name if isinstance(name, str) else None)
    except TypeError:
        kind = np.dtype(object)
    if not isinstance(name, str) or kind.kind not in KINDS:
        raise MessageError(f"arrays of dtype {name!r} are not taken: booleans, integers and floats are")
    return kind
