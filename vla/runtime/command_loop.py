"""What runs inside the command process: stream, gate and robot, once per sample, until it is told to end.

However it is told (by its parent, by a signal, by the parent's death) it brings the robot to rest first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from vla.errors import UserError
from vla.processes import Ending, Maker, real_time, settle, sleep_until
from vla.runtime.command_state import CommandState, Phase, Wishes, unpack_chunk
from vla.runtime.command_stream import CommandStream, Waypoint
from vla.runtime.safety_gate import Passed, SafetyGate
from vla.shared_slot import Slot
from vla.spec import RobotSpec

_LONGEST_STOP = 20.0
"""Seconds of samples after which the process ends even if the robot should still not be at rest."""
_AHEAD = 0.9
"""Periods before a sample is due that computing it begins: so long it may take without moving the moment it is sent."""


class Servos(Protocol):
    """The fast half of a robot: what is called at every sample. None of it may block for long."""

    def measure(self) -> tuple[Float[np.ndarray, " N"], float | None]:
        """The joints (N,) in rad, and the gripper in the action's unit if there is one."""
        ...

    def command(self, action: Float[np.ndarray, " A"], joints: Float[np.ndarray, " N"]) -> None:
        """action: (A,) as the spec has it. joints: (N,) rad, where the gate's kinematics say that this leads.

        A body that takes joint positions uses `joints`, in every action mode: a redundant arm can be at one tool pose
        in many ways, and these joints are the ones whose limits were checked.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Settings:
    """How the process is to run. priority: of SCHED_FIFO, 0 for none; core: to pin to, -1 for the last, or None."""

    rate_hz: float = 200.0
    priority: int = 50
    core: int | None = -1


def run(
    spec: Mapping[str, Any],
    robot: Maker,
    settings: Mapping[str, Any],
    memories: tuple[Any, Any, Any],
    parent: int,
) -> None:
    """The process's main function; plain values in. robot: called with the spec, gives the `Servos`."""
    ending = Ending(parent, interrupt=True)
    chunks, wishes, states = (Slot(memory) for memory in memories)
    servos: Servos | None = None
    try:
        how = Settings(**settings)
        parsed = RobotSpec.from_dict(dict(spec))
        gate = SafetyGate(parsed, rate_hz=how.rate_hz)
        servos = robot.make(parsed)
        assert servos is not None
        gate.reset(*servos.measure())
        scheduling = real_time(how.priority, how.core)
        loop = CommandLoop(gate, servos, how, chunks, wishes, states, scheduling)
        settle()
        loop.run(lambda: bool(ending))
    except Exception as error:
        states.put(CommandState(phase="failed", error=f"{type(error).__name__}: {error}"[:2000]).pack())
        if not isinstance(error, UserError):
            raise
    finally:
        if servos is not None:
            servos.close()


class CommandLoop:
    """One `tick` is one sample; `run` sends them on absolute deadlines."""

    def __init__(
        self, gate: SafetyGate, servos: Servos, how: Settings, chunks: Slot, wishes: Slot, states: Slot, scheduling: str
    ) -> None:
        self._gate = gate
        self._servos = servos
        self._period = 1 / how.rate_hz
        self._stream = CommandStream(gate.layout, 1 / gate.spec.rate_hz)
        self._chunks, self._wishes, self._states = chunks, wishes, states
        self._scheduling = scheduling
        self._wished = Wishes()
        self._ticks = 0
        self._late = 0.0
        self._missed = 0
        self._refused = ""
        for message in wishes.held()[-1:]:  # what was wished before it lived
            self._obey(Wishes.unpack(message), *servos.measure())

    def run(self, ended: Callable[[], bool]) -> None:
        """Until `ended()`, and then until the robot is at rest."""
        deadline = time.monotonic() + self._period
        left = int(_LONGEST_STOP / self._period)
        passed = None
        while left > 0:
            ending = ended()
            if ending and passed is not None and passed.held and self._gate.at_rest:
                break
            left -= ending
            sleep_until(deadline - _AHEAD * self._period)
            passed, measured = self._decide(deadline, ending)
            sent = self._wait(deadline)
            self._send(passed, measured, sent)
            deadline = sent + self._period
        if passed is not None:
            self._tell("ended", time.monotonic(), passed, self._servos.measure()[0])

    def tick(self, now: float) -> Passed:
        """One sample, sent as soon as it is computed: hear, measure, decide, command, tell."""
        passed, measured = self._decide(now, ending=False)
        self._send(passed, measured, now)
        return passed

    def _decide(self, now: float, ending: bool) -> tuple[Passed, Float[np.ndarray, " N"]]:
        """The sample to be sent at `now`, and the joints as measured. ending: hold, whatever comes in."""
        measured, gripper = self._servos.measure()
        self._hear(measured, gripper)
        action = None
        if ending or self._gate.stopped is not None:
            self._stream.drop()
        else:
            action = self._stream.sample(now, lambda: Waypoint.of_gate(self._gate, now))
        return self._gate.step(action, now, now, measured), measured

    def _send(self, passed: Passed, measured: Float[np.ndarray, " N"], now: float) -> None:
        self._servos.command(passed.applied, passed.joints)
        self._ticks += 1
        self._tell("running", now, passed, measured)

    def _hear(self, measured: Float[np.ndarray, " N"], gripper: float | None) -> None:
        message = self._wishes.take()
        if message is not None:
            self._obey(Wishes.unpack(message), measured, gripper)
        message = self._chunks.take()
        if message is not None and self._gate.stopped is None:
            chunk = unpack_chunk(message)
            if len(chunk.actions):
                self._stream.submit(chunk)
            else:
                self._stream.drop()

    def _obey(self, wished: Wishes, measured: Float[np.ndarray, " N"], gripper: float | None) -> None:
        before, self._wished = self._wished.newest, wished
        if before < wished.reset < wished.stop:
            self._reset(measured, gripper)
        if before < wished.stop:
            self._gate.stop(wished.reason)
        if max(before, wished.stop) < wished.reset:
            self._reset(measured, gripper)

    def _reset(self, measured: Float[np.ndarray, " N"], gripper: float | None) -> None:
        self._refused = ""
        if self._gate.stopped is None:
            return
        try:
            self._gate.reset(measured, gripper)
        except (UserError, RuntimeError) as error:
            self._refused = f"reset refused: {error}"

    def _wait(self, deadline: float) -> float:
        """Sleep until the deadline; returns it. After a late one the grid starts anew: samples never burst."""
        late = sleep_until(deadline)
        self._late = max(self._late, late)
        if late > self._period / 2:
            self._missed += 1
            return time.monotonic()
        return deadline

    def _tell(self, phase: Phase, now: float, passed: Passed, measured: Float[np.ndarray, " N"]) -> None:
        nothing = np.full(len(passed.applied), np.nan)
        state = CommandState(
            phase=phase,
            tick=self._ticks,
            now=now,
            late=self._late,
            missed=self._missed,
            commanded=nothing if passed.commanded is None else passed.commanded,
            applied=passed.applied,
            joints=passed.joints,
            measured=measured,
            held=passed.held,
            at_rest=self._gate.at_rest,
            stopped=passed.stopped,
            starvations=self._stream.starvations,
            outdated=self._stream.outdated,
            counts=dict(self._gate.counts),
            scheduling=self._scheduling,
            error=self._refused,
        )
        self._states.put(state.pack())
