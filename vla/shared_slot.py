"""Messages between processes through shared memory: nobody waits, and half a message is never read."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict
from multiprocessing.context import SpawnContext
from typing import Any, Self

_HEADER = struct.Struct("<QII")  # sequence number, size, checksum


def slot_memory(context: SpawnContext, capacity: int, places: int = 2) -> Any:
    """Shared memory for one `Slot` of messages up to `capacity` bytes, to be given to a spawned process.

    It has no name in the file system, so whatever dies, nothing is left behind.
    """
    return context.RawArray("B", places * (_HEADER.size + capacity))


class Slot:
    """One end of a slot: one process puts, any number take.

    places: how many of the newest messages it holds, as given to `slot_memory`; two, unless readers want to look back.
    Messages go to the places in turn, each with its number and a checksum of both: a writer that dies half-way, or
    overtakes the reader, leaves a checksum that does not fit, and an older place is read. A writer that is started
    again goes on counting where the one before it was.
    """

    def __init__(self, memory: Any, places: int = 2) -> None:
        self._memory = memoryview(memory).cast("B")
        self._places = places
        self._size = len(self._memory) // places
        self.capacity = self._size - _HEADER.size
        self._sequence = next((sequence for sequence, begin in self._newest_first() if self._read(begin)), 0)

    def put(self, message: bytes) -> None:
        """Raises ValueError for a message over the capacity."""
        if len(message) > self.capacity:
            raise ValueError(f"a message of {len(message)} bytes does not fit into {self.capacity}")
        self._sequence += 1
        begin = self._size * (self._sequence % self._places)
        body = begin + _HEADER.size
        self._memory[body : body + len(message)] = message
        self._memory[begin:body] = _HEADER.pack(self._sequence, len(message), _checksum(self._sequence, message))

    def take(self) -> bytes | None:
        """The newest message if it was not taken before, else None."""
        for sequence, begin in self._newest_first():
            if sequence <= self._sequence:
                break
            if (found := self._read(begin)) is not None:
                self._sequence = found[0]
                return found[1]
        return None

    def take_all(self) -> list[bytes]:
        """Every message not taken before that is still held, oldest first."""
        found = [self._read(begin) for sequence, begin in self._newest_first() if sequence > self._sequence]
        fresh = sorted(one for one in found if one is not None)
        if fresh:
            self._sequence = fresh[-1][0]
        return [message for _, message in fresh]

    def held(self) -> list[bytes]:
        """Every message still held, oldest first, taken or not."""
        found = (self._read(begin) for _, begin in self._newest_first())
        return [message for _, message in sorted(one for one in found if one is not None)]

    def _newest_first(self) -> list[tuple[int, int]]:
        """Sequence numbers, as their headers have them, and where they begin."""
        begins = range(0, self._size * self._places, self._size)
        numbered = ((_HEADER.unpack_from(self._memory, begin)[0], begin) for begin in begins)
        return sorted((one for one in numbered if one[0]), reverse=True)

    def _read(self, begin: int) -> tuple[int, bytes] | None:
        sequence, size, checksum = _HEADER.unpack_from(self._memory, begin)
        if not sequence or size > self.capacity:
            return None
        body = begin + _HEADER.size
        message = bytes(self._memory[body : body + size])
        return (sequence, message) if _checksum(sequence, message) == checksum else None


class JsonMessage:
    """A base of dataclasses of plain values: how they travel."""

    def pack(self) -> bytes:
        return json.dumps(asdict(self)).encode()  # type: ignore[call-overload]

    @classmethod
    def unpack(cls, message: bytes) -> Self:
        return cls(**json.loads(message))


def _checksum(sequence: int, message: bytes) -> int:
    return zlib.crc32(message, zlib.crc32(struct.pack("<Q", sequence)))
