"""One message between two processes: the newest wins, neither side waits, and half a message is never read."""

from __future__ import annotations

import struct
import zlib
from multiprocessing.context import SpawnContext
from typing import Any

_HEADER = struct.Struct("<QII")  # sequence number, size, checksum


def slot_memory(context: SpawnContext, capacity: int) -> Any:
    """Shared memory for one `Slot` of messages up to `capacity` bytes, to be given to a spawned process.

    It has no name in the file system, so whatever dies, nothing is left behind.
    """
    return context.RawArray("B", 2 * (_HEADER.size + capacity))


class Slot:
    """One end of a slot; one process puts, one takes.

    Messages go to two places in turn, each with its number and a checksum of both: a writer that dies half-way, or
    overtakes the reader, leaves a checksum that does not fit, and the other place is read.
    """

    def __init__(self, memory: Any) -> None:
        self._memory = memoryview(memory).cast("B")
        self._size = len(self._memory) // 2
        self.capacity = self._size - _HEADER.size
        newest = self._newest()
        self._sequence = newest[0] if newest else 0

    def put(self, message: bytes) -> None:
        """Raises ValueError for a message over the capacity."""
        if len(message) > self.capacity:
            raise ValueError(f"a message of {len(message)} bytes does not fit into {self.capacity}")
        self._sequence += 1
        begin = self._size * (self._sequence % 2)
        body = begin + _HEADER.size
        self._memory[body : body + len(message)] = message
        self._memory[begin:body] = _HEADER.pack(self._sequence, len(message), _checksum(self._sequence, message))

    def take(self) -> bytes | None:
        """The newest message if it was not taken before, else None."""
        newest = self._newest()
        if newest is None or newest[0] <= self._sequence:
            return None
        self._sequence = newest[0]
        return newest[1]

    def _newest(self) -> tuple[int, bytes] | None:
        found = []
        for begin in (0, self._size):
            body = begin + _HEADER.size
            sequence, size, checksum = _HEADER.unpack(self._memory[begin:body])
            if sequence and size <= self.capacity:
                message = bytes(self._memory[body : body + size])
                if _checksum(sequence, message) == checksum:
                    found.append((sequence, message))
        return max(found, default=None)


def _checksum(sequence: int, message: bytes) -> int:
    return zlib.crc32(message, zlib.crc32(struct.pack("<Q", sequence)))
