"""The command stream as a process of its own: beside a busy thread, a 200 Hz loop in one Python process is late."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from vla.errors import UserError
from vla.runtime.command_loop import Settings, run
from vla.runtime.command_state import CommandState, Wishes, pack_chunk
from vla.runtime.command_stream import TimedChunk
from vla.runtime.commands import ActionLayout
from vla.runtime.shared_slot import Slot, slot_memory
from vla.spec import RobotSpec

_CHUNK_BYTES, _WISH_BYTES, _STATE_BYTES = 1 << 20, 1 << 12, 1 << 16


class CommandProcess:
    """Streams chunks to a robot at 200 Hz, through the safety gate; used as a context manager.

    robot: "module:function", called in the process with the spec and `arguments` (plain values), gives the `Servos`.
    The process stops the robot smoothly and ends when it is closed, at SIGTERM and Ctrl-C, and when its parent dies.
    """

    def __init__(
        self,
        spec: RobotSpec,
        robot: str,
        arguments: Mapping[str, Any] | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.spec = spec
        self._layout = ActionLayout(spec)
        context = multiprocessing.get_context("spawn")
        memories = tuple(slot_memory(context, size) for size in (_CHUNK_BYTES, _WISH_BYTES, _STATE_BYTES))
        self._chunks, self._wishes, self._states = (Slot(memory) for memory in memories)
        self._wished = Wishes()
        self._state = CommandState()
        how = asdict(settings or Settings())
        values = (spec.to_dict(), robot, dict(arguments or {}), how, memories, os.getpid())
        self._process = context.Process(target=run, args=values, name="vla-command", daemon=True)

    def start(self, timeout: float = 60.0) -> None:
        """Returns when the robot is under command. Raises UserError if that fails or takes longer (s)."""
        self._process.start()
        self.wait(lambda state: state.phase != "starting", timeout, "the command process has not started")

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
        self._chunks.put(pack_chunk(TimedChunk(time.monotonic() if start is None else start, actions)))

    def hold(self) -> None:
        """Forget what was sent: brake and hold until the next chunk."""
        self._wish(drops=self._wished.drops + 1)

    def stop(self, reason: str) -> None:
        """Brake and hold until `reset`."""
        self._wish(stops=self._wished.stops + 1, reason=reason)

    def reset(self) -> None:
        """Follow chunks again after a stop; refused, and told in `state().error`, unless the robot is at rest."""
        self._wish(resets=self._wished.resets + 1)

    def state(self) -> CommandState:
        """The newest sample."""
        message = self._states.take()
        if message is not None:
            self._state = CommandState.unpack(message)
        return self._state

    def wait(self, until: Callable[[CommandState], bool], timeout: float, otherwise: str) -> CommandState:
        """The first state seen for which `until` holds. UserError if the process fails or the time (s) is over."""
        deadline = time.monotonic() + timeout
        while not until(state := self.state()) or state.phase == "failed":
            if state.phase == "failed":
                raise UserError(f"the command process failed: {state.error}")
            if self._process.exitcode is not None and state is self.state():
                raise UserError(f"the command process ended with exit code {self._process.exitcode}")
            if time.monotonic() > deadline:
                raise UserError(f"{otherwise} within {timeout:g} s")
            time.sleep(0.005)
        return state

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def close(self, timeout: float = 30.0) -> None:
        """Bring the robot to rest and end the process; may be called twice. After `timeout` (s) it is killed."""
        if self._process.pid is None:
            return
        self._wish(quit=True)
        self._process.join(timeout)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> CommandProcess:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wish(self, **changes: Any) -> None:
        self._wished = replace(self._wished, **changes)
        self._wishes.put(self._wished.pack())
