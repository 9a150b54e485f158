"""What the command process and its parent tell each other: chunks and wishes in, the newest state out."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

from vla.runtime.command_stream import TimedChunk
from vla.shared_slot import JsonMessage

Phase = Literal["starting", "running", "ended", "failed"]

_CHUNK = struct.Struct("<dII")
_STATE = struct.Struct("<QddQII")


@dataclass(frozen=True)
class Wishes(JsonMessage):
    """What the parent wants besides motion. reset, stop: the number of the newest, which are counted together, so that
    the higher came later; reason: of the newest stop."""

    reset: int = 0
    stop: int = 0
    reason: str = ""

    @property
    def newest(self) -> int:
        return max(self.reset, self.stop)


@dataclass(frozen=True)
class CommandState:
    """The newest sample of the command process.

    tick: samples sent so far. now, late: seconds on `time.monotonic`, and the worst delay of a sample behind its
    deadline so far. missed: samples more than half a period late; the motion is then slower, never faster.
    commanded, applied: (A,) what came in (NaN where nothing did) and what the robot got. joints, measured: (N,) rad.
    counts: how often the gate enforced each rule. scheduling: what came of asking for real time. error: why the process
    failed, or refused the last reset.
    """

    phase: Phase = "starting"
    tick: int = 0
    now: float = 0.0
    late: float = 0.0
    missed: int = 0
    commanded: Float[np.ndarray, " A"] = field(default_factory=lambda: np.zeros(0))
    applied: Float[np.ndarray, " A"] = field(default_factory=lambda: np.zeros(0))
    joints: Float[np.ndarray, " N"] = field(default_factory=lambda: np.zeros(0))
    measured: Float[np.ndarray, " N"] = field(default_factory=lambda: np.zeros(0))
    held: bool = True
    at_rest: bool = True
    stopped: str | None = None
    starvations: int = 0
    outdated: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    scheduling: str = ""
    error: str = ""

    def pack(self) -> bytes:
        vectors = np.concatenate([self.commanded, self.applied, self.joints, self.measured]).astype("<f8")
        plain = ("phase", "held", "at_rest", "stopped", "starvations", "outdated", "counts", "scheduling", "error")
        rest = json.dumps({name: getattr(self, name) for name in plain}).encode()
        sizes = len(self.applied), len(self.joints)
        return _STATE.pack(self.tick, self.now, self.late, self.missed, *sizes) + vectors.tobytes() + rest

    @classmethod
    def unpack(cls, message: bytes) -> CommandState:
        tick, now, late, missed, actions, joints = _STATE.unpack_from(message)
        count = 2 * (actions + joints)
        vectors = np.frombuffer(message, "<f8", count, _STATE.size)
        ends = np.cumsum([actions, actions, joints])
        commanded, applied, places, measured = np.split(vectors, ends)
        rest = json.loads(message[_STATE.size + 8 * count :])
        return cls(
            tick=tick,
            now=now,
            late=late,
            missed=missed,
            commanded=commanded,
            applied=applied,
            joints=places,
            measured=measured,
            **rest,
        )


def pack_chunk(chunk: TimedChunk) -> bytes:
    """A chunk without rows says: forget what was sent before."""
    rows, columns = chunk.actions.shape
    return _CHUNK.pack(chunk.start, rows, columns) + np.ascontiguousarray(chunk.actions, "<f8").tobytes()


def unpack_chunk(message: bytes) -> TimedChunk:
    start, rows, columns = _CHUNK.unpack_from(message)
    return TimedChunk(start, np.frombuffer(message, "<f8", rows * columns, _CHUNK.size).reshape(rows, columns))
