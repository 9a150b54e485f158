"""What the processes of a run tell whoever watches: plain values through shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vla.processes import SPAWN
from vla.shared_slot import JsonMessage, Slot, slot_memory

REPORT_BYTES = 1 << 12
REPORT_PLACES = 128
"""Reports that may wait for a watcher: more than a second's."""


@dataclass(frozen=True)
class Instruction(JsonMessage):
    """id: counts up from 0; a thought says which one it answers."""

    id: int
    text: str


@dataclass(frozen=True)
class SlowReport(JsonMessage):
    """One turn of S2. time: when it ended (`time.monotonic`). ms: what the look took, None if there was none, as when
    there is nothing to look at. stamp: capture time of the image. away: why the policy's server could not be asked; it
    will be asked again. error: why the process failed.
    """

    time: float
    ms: float | None = None
    stamp: float | None = None
    instruction_id: int | None = None
    away: str = ""
    error: str = ""


@dataclass(frozen=True)
class FastReport(JsonMessage):
    """One turn of S1. time: when it ended. ms: what the chunk took, None if there was none. waits: why it holds, if so.

    age_s: of the thought; image_age_s: of the oldest image (s). delay: actions that were committed to while it
    computed. late: whether it took longer than that. refused: why its chunk was not sent. away: why the policy's server
    could not be asked; it will be asked again. error: why it failed.
    """

    time: float
    ms: float | None = None
    waits: str | None = None
    age_s: float | None = None
    image_age_s: float | None = None
    delay: int = 0
    late: bool = False
    refused: str = ""
    away: str = ""
    error: str = ""


def report_memory() -> Any:
    return slot_memory(SPAWN, REPORT_BYTES, REPORT_PLACES)


def report_slot(memory: Any) -> Slot:
    """One end of it: the process puts, the watcher takes all."""
    return Slot(memory, REPORT_PLACES)
