"""The mailbox when S2 is another process: a thought goes through shared memory as numbers."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from vla.runtime.mailbox import Mailbox
from vla.s2.thought import Thought
from vla.shared_slot import Slot

THOUGHT_BYTES = 1 << 20
_THOUGHT = struct.Struct("<dQII")  # stamp, instruction id, K, D


class SharedMailbox:
    """One end of it; memory: `slot_memory` of THOUGHT_BYTES. The newest wins, by the rule of `Mailbox`."""

    def __init__(self, memory: Any) -> None:
        self._slot = Slot(memory)
        self._mailbox = Mailbox()

    def put(self, thought: Thought) -> None:
        latents = np.ascontiguousarray(thought.latents, "<f4")
        header = _THOUGHT.pack(thought.stamp, thought.instruction_id, *latents.shape)
        self._slot.put(header + latents.tobytes() + (thought.text or "").encode())

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
