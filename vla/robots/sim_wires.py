"""What runs between a simulated body and everybody else, as cables do on a real one."""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from vla.processes import SPAWN
from vla.robots.senses import SenseMemory
from vla.shared_slot import JsonMessage, Slot, slot_memory
from vla.spec import RobotSpec

DT = 0.005
"""One tick of the body's time (s)."""
COMMAND_PLACES = 64
"""Commands that may wait while the body is late."""
_WORDS_BYTES = 1 << 14


@dataclass(frozen=True)
class World:
    """Which scene: `seed` alone decides it. instruction: to judge it by, None for the scene's own."""

    env: str = "tabletop"
    seed: int = 0
    task: str = "all"
    split: str = "all"
    instruction: str | None = None


@dataclass(frozen=True)
class BodySettings:
    """Rates and delays, in Hz and seconds, of an ordinary robot, and how its process runs.

    camera_latency_s, camera_jitter_s: an image arrives so long after its capture, and up to so much later.
    state_latency_s: likewise for joint states. priority: of SCHED_FIFO, 0 for none. log: folder in which the body
    writes down what it received and how it moved (see `read_log`).
    """

    camera_hz: float = 30.0
    camera_latency_s: float = 0.03
    camera_jitter_s: float = 0.01
    state_latency_s: float = 0.002
    priority: int = 40
    log: str | None = None


@dataclass(frozen=True)
class BodyState(JsonMessage):
    """The newest the body tells of itself. phase: as `CommandState`'s. ticks: 200ths of a second it has lived through.

    received: commands so far; lost: commands that were overwritten before it looked; silent: ticks without a command,
    in which it braked by itself; slipped: seconds that the computer was late for and that its time stood still.
    gap: the longest time (s) between two receipts. began_s: when the scene began, or began anew, in seconds of the
    body's time. solved_s: when the task was first done, in seconds since then.
    log_lost: why its log ends.
    """

    phase: str = "starting"
    ticks: int = 0
    received: int = 0
    lost: int = 0
    silent: int = 0
    slipped: float = 0.0
    gap: float = 0.0
    began_s: float = 0.0
    solved_s: float | None = None
    instruction: str = ""
    scheduling: str = ""
    log_lost: str = ""
    error: str = ""

    @property
    def age_s(self) -> float:
        """How long the scene has gone on, in seconds of the body's time."""
        return self.ticks * DT - self.began_s


@dataclass(frozen=True)
class JointCommand:
    """number: counts commands. sent: when, on `time.monotonic`. joints: (N,) rad. gripper: a share, 1 = open."""

    number: int
    sent: float
    joints: Float[np.ndarray, " N"]
    gripper: float

    def pack(self) -> bytes:
        return _COMMAND.pack(self.number, self.sent, self.gripper) + np.asarray(self.joints, "<f8").tobytes()

    @classmethod
    def unpack(cls, message: bytes) -> JointCommand:
        number, sent, gripper = _COMMAND.unpack_from(message)
        return cls(number, sent, np.frombuffer(message, "<f8", offset=_COMMAND.size), gripper)


_COMMAND = struct.Struct("<Qdd")


@dataclass(frozen=True)
class Wires:
    """Shared memory and a doorbell: the body sleeps until a command comes, and notes when it woke."""

    senses: SenseMemory
    commands: Any
    snapshots: Any
    states: Any
    wishes: Any
    bell: Any = field(repr=False)
    ring: Any = field(repr=False)

    @classmethod
    def of(cls, spec: RobotSpec) -> Wires:
        joints = len(spec.kinematics.joints) if spec.kinematics else 0
        bell, ring = SPAWN.Pipe(duplex=False)
        for end in (bell, ring):
            os.set_blocking(end.fileno(), False)
        return cls(
            senses=SenseMemory.of(spec),
            commands=slot_memory(SPAWN, _COMMAND.size + 8 * joints, COMMAND_PLACES),
            snapshots=slot_memory(SPAWN, 1 << 16),
            states=slot_memory(SPAWN, _WORDS_BYTES),
            wishes=slot_memory(SPAWN, _WORDS_BYTES),
            bell=bell,
            ring=ring,
        )


class CommandWriter:
    def __init__(self, wires: Wires) -> None:
        self._slot = Slot(wires.commands, COMMAND_PLACES)
        self._ring = wires.ring

    def put(self, command: JointCommand) -> None:
        self._slot.put(command.pack())
        # A body that does not listen, or is no more, shows in the joint states.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._ring.fileno(), b"\0")


class CommandReader:
    def __init__(self, wires: Wires) -> None:
        self._slot = Slot(wires.commands, COMMAND_PLACES)
        self._bell = wires.bell

    def wait(self, timeout: float) -> list[JointCommand]:
        """Every command that is waiting, oldest first; sleeps until there is one, at most `timeout` seconds."""
        if self._bell.poll(max(timeout, 0)):
            os.read(self._bell.fileno(), 1 << 16)
        return [JointCommand.unpack(message) for message in self._slot.take_all()]
