"""ROS 2 message types without ROS: definitions, CDR and type hashes, all by `rosbags`.

Messages are plain dataclasses with ROS's field names (`message.header.stamp.sec`), so what reads one reads rclpy's too.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from vla.errors import UserError

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

Distribution = Literal["humble", "jazzy"]
DISTRIBUTIONS: tuple[Distribution, ...] = get_args(Distribution)

BASE, NAME, ARRAY, SEQUENCE = 1, 2, 3, 4
"""Kinds of field in `rosbags`' definitions: (kind, (name, limit)), (kind, type), (kind, (element, count))."""


class MessageTypes:
    """The message types of one ROS 2 distribution. `store`: other definitions, such as those a bag carries."""

    def __init__(self, distribution: Distribution = "jazzy", store: Typestore | None = None) -> None:
        try:
            from rosbags.typesys import Stores, get_typestore
        except ModuleNotFoundError as error:
            raise UserError(f"ROS messages need the Python package {error.name}: install vla[dds]") from None
        self.store = store or get_typestore(getattr(Stores, f"ROS2_{distribution.upper()}"))

    def fields(self, name: str) -> list[tuple[str, Any]]:
        """Field names and their definitions, in order. Raises UserError for an unknown type."""
        if name not in self.store.fielddefs:
            raise UserError(f"message type {name} is unknown")
        return [(field, definition) for field, definition in self.store.fielddefs[name][1]]

    def new(self, ros_type: str, /, **values: Any) -> Any:
        """A message; fields not given are zero, empty or false. Raises UserError for an unknown type."""
        made = {field: self._zero(definition) for field, definition in self.fields(ros_type)}
        return self.store.types[ros_type](**{**made, **values})

    def to_cdr(self, message: Any) -> bytes:
        """Little-endian CDR (XCDR1) of what `new` or `from_cdr` made, with its four bytes of encapsulation header."""
        return bytes(self.store.serialize_cdr(message, message.__msgtype__))

    def from_cdr(self, data: bytes, name: str) -> Any:
        """The message in `data`, of either byte order. Raises ValueError for bytes that are no such message."""
        from rosbags.serde import SerdeError

        if len(data) < 4 or data[0] != 0 or data[1] > 1:
            raise ValueError(f"not plain CDR (XCDR1): it begins with {data[:4].hex(' ') or 'nothing'}")
        try:
            return self.store.deserialize_cdr(data, name)
        except (SerdeError, struct.error, IndexError, ValueError, AssertionError) as error:
            raise ValueError(f"not a {name}: {error or type(error).__name__}") from None

    def hash(self, name: str) -> str:
        """RIHS01 hash of the type, as Iron and later announce it (REP-2016)."""
        return self.store.hash_rihs01(name)

    def _zero(self, definition: Any) -> Any:
        kind, inner = definition
        if kind == BASE:
            return _ZEROS.get(inner[0], 0)
        if kind == NAME:
            return self.new(inner)
        (element, what), count = inner
        if element == BASE and what[0] in _ARRAYS:
            return np.zeros(count if kind == ARRAY else 0, _ARRAYS[what[0]])
        return [self._zero(inner[0]) for _ in range(count if kind == ARRAY else 0)]


_ZEROS: dict[str, Any] = {"string": "", "bool": False, "float32": 0.0, "float64": 0.0}
_ARRAYS: dict[str, Any] = {
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "octet": "uint8", "byte": "uint8", "bool": "bool", "float32": "float32", "float64": "float64",
}  # fmt: skip
