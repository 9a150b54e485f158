"""The way in for chunks: whoever computes them hands them to the command process here, from whatever process it is."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from jaxtyping import Float

from vla.runtime.command_state import pack_chunk
from vla.runtime.command_stream import TimedChunk
from vla.runtime.commands import ActionLayout
from vla.shared_slot import Slot
from vla.spec import RobotSpec

CHUNK_BYTES = 1 << 20


class ChunkPort:
    """memory: `slot_memory` of CHUNK_BYTES, which the command process reads. One process at a time may write to it."""

    def __init__(self, spec: RobotSpec, memory: Any) -> None:
        self._layout = ActionLayout(spec)
        self._chunks = Slot(memory)

    def send(self, actions: Float[np.ndarray, "H A"], start: float | None = None) -> None:
        """Hand over a chunk; row 0 is for the control period beginning at `start` (`time.monotonic`, default now).

        Raises ValueError for a chunk that could only make the gate stop: wrong size, or not finite.
        """
        actions = np.asarray(actions, np.float64)
        if actions.ndim != 2 or not len(actions):
            raise ValueError(f"a chunk is (H, {self._layout.size}) with H of at least 1, got shape {actions.shape}")
        for row, action in enumerate(actions):
            fault = self._layout.fault(action)
            if fault is not None:
                raise ValueError(f"row {row} of the chunk cannot be commanded: {fault}")
        self._put(TimedChunk(time.monotonic() if start is None else start, actions))

    def hold(self) -> None:
        """Forget what was sent: brake and hold until the next chunk."""
        self._put(TimedChunk(time.monotonic(), np.zeros((0, self._layout.size))))

    def _put(self, chunk: TimedChunk) -> None:
        self._chunks.put(pack_chunk(chunk))
