"""The mailbox when S2 is another process: a thought goes through shared memory as numbers."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from vla.errors import UserError
from vla.runtime.mailbox import Mailbox
from vla.s2.thought import Thought
from vla.shared_slot import Slot

THOUGHT_BYTES = 1 << 22
"""Of the largest thought: latents of 255 x 4096, and words."""
_THOUGHT = struct.Struct("<dqII")  # stamp, instruction id, K, D


class SharedMailbox:
    """One end of it; memory: `slot_memory` of THOUGHT_BYTES. The newest wins, by the rule of `Mailbox`."""

    def __init__(self, memory: Any) -> None:
        self._slot = Slot(memory)
        self._mailbox = Mailbox()

    def put(self, thought: Thought) -> None:
        """UserError for one that is too large."""
        latents = np.ascontiguousarray(thought.latents, "<f4")
        header = _THOUGHT.pack(thought.stamp, thought.instruction_id, *latents.shape)
        message = header + latents.tobytes() + (thought.text or "").encode()
        if len(message) > self._slot.capacity:
            size, most = f"{latents.shape[0]} x {latents.shape[1]} latents", self._slot.capacity
            raise UserError(f"thoughts of {size} do not fit between S2's and S1's processes, which pass {most:,} bytes")
        self._slot.put(message)

    def newest(self, instruction_id: int) -> Thought | None:
        """As `Mailbox.newest`."""
        message = self._slot.take()
        if message is not None:
            self._mailbox.put(_unpack(message))
        return self._mailbox.newest(instruction_id)


def _unpack(message: bytes) -> Thought:
    stamp, instruction_id, rows, columns = _THOUGHT.unpack_from(message)
    latents: Any = np.frombuffer(message, "<f4", rows * columns, _THOUGHT.size).reshape(rows, columns).copy()
    text = message[_THOUGHT.size + latents.nbytes :].decode() or None
    return Thought(latents, stamp, instruction_id, text)
