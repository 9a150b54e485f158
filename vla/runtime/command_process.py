"""The command stream as a process of its own: beside a busy thread, a 200 Hz loop in one Python process is late."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from vla.errors import UserError
from vla.processes import SPAWN, Maker, Part, Running
from vla.runtime.chunk_port import CHUNK_BYTES, ChunkPort
from vla.runtime.command_loop import Settings, run
from vla.runtime.command_state import CommandState, Wishes
from vla.shared_slot import Slot, slot_memory
from vla.spec import RobotSpec

_WISH_BYTES, _STATE_BYTES = 1 << 12, 1 << 16


class CommandProcess(Running):
    """Streams chunks to a robot at 200 Hz, through the safety gate; used as a context manager.

    robot: called in the process with the spec, gives the `Servos`.
    The process stops the robot smoothly and ends when it is closed, at SIGTERM, SIGHUP and Ctrl-C, and when its parent
    dies.
    After it has ended, however it did, `start` begins again from where the robot is then; a stop lasts until `reset`.
    """

    def __init__(
        self,
        spec: RobotSpec,
        robot: Maker,
        settings: Settings | None = None,
    ) -> None:
        self.spec = spec
        memories = tuple(slot_memory(SPAWN, size) for size in (CHUNK_BYTES, _WISH_BYTES, _STATE_BYTES))
        self.chunk_memory = memories[0]
        self._port = ChunkPort(spec, self.chunk_memory)
        self._wishes, self._states = (Slot(memory) for memory in memories[1:])
        self._wished = Wishes()
        self._state = CommandState()
        self._stopped: str | None = None
        self._part = Part("command", run, spec.to_dict(), robot, asdict(settings or Settings()), memories)

    def start(self, timeout: float = 60.0) -> None:
        """Returns when the robot is under command. Raises UserError if that fails or takes longer (s)."""
        self._stopped = self.state().stopped or self._stopped
        self._wished, self._state = Wishes(), CommandState()
        # There before the process is: it begins stopped, and follows no chunk until a reset.
        self._wish(stop=0 if self._stopped is None else 1, reason=self._stopped or "")
        self._part.start()
        self.wait(lambda state: state.phase != "starting", timeout, "the command process has not started")

    def send(self, actions: Float[np.ndarray, "H A"], start: float | None = None) -> None:
        """As `ChunkPort.send`. Another process may send in place of this one, by a `ChunkPort` on `chunk_memory`."""
        self._port.send(actions, start)

    def hold(self) -> None:
        """Forget what was sent: brake and hold until the next chunk."""
        self._port.hold()

    def stop(self, reason: str) -> None:
        """Brake and hold until `reset`, also when the process is started again meanwhile."""
        self._stopped = self._stopped or reason
        self._wish(stop=self._wished.newest + 1, reason=reason)

    def reset(self) -> None:
        """Follow chunks again after a stop; refused, and told in `state().error`, unless the robot is at rest."""
        self._stopped = None
        self._wish(reset=self._wished.newest + 1)

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
            if self._part.exitcode is not None and state is self.state():
                raise UserError(f"the command process ended with exit code {self._part.exitcode}")
            if time.monotonic() > deadline:
                raise UserError(f"{otherwise} within {timeout:g} s")
            time.sleep(0.005)
        return state

    @property
    def pid(self) -> int | None:
        return self._part.pid

    @property
    def alive(self) -> bool:
        return self._part.alive

    def close(self, timeout: float = 30.0) -> None:
        """Bring the robot to rest and end the process; may be called twice. After `timeout` (s) it is killed."""
        self._part.close(timeout)

    def _wish(self, **changes: Any) -> None:
        self._wished = replace(self._wished, **changes)
        self._wishes.put(self._wished.pack())
