"""What a run in wall-clock time measured: every report as a line of JSON, and the numbers that sum it up."""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from jaxtyping import Float

from vla.processes import memory_of_parts
from vla.runtime.supervisor import Watch

_RECENT = 2.0
"""Seconds over which live rates are counted."""
_WEIGH_EVERY = 5.0
"""Seconds between two looks at how much memory the processes hold."""


class RunTelemetry:
    """Collects `Watch`es. file: JSON lines, one per watch; `time` is in seconds on `time.monotonic`, as all stamps are.

    s1_delays: actions that each chunk was told to be committed to, from the capture of its images on. s2_delays: from
    there to a thought (s). ages: of thoughts (s), at `age_times`. holds: since when the robot holds and why, or None:
    since when it acts. memory: when, and how much (MB) each process held (`vla.processes.memory_of_parts`). An hour of
    it all takes two megabytes.
    A disk that is full ends the writing, not the run: `lost` then says why.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.began = time.monotonic()
        self.ended: float | None = None
        self.s1_ms = array("d")
        self.s2_ms = array("d")
        self.s1_times = array("d")
        self.s2_times = array("d")
        self.s1_delays = array("I")
        self.s2_delays = array("d")
        self.age_times = array("d")
        self.ages = array("d")
        self.holds: list[tuple[float, str | None]] = []
        self.memory: list[tuple[float, dict[str, float]]] = []
        self.events: list[str] = []
        self.late_chunks = self.refused_chunks = 0
        self.lost = ""
        self._watch: Watch | None = None
        self._file: TextIO | None = None
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._file = file.open("w", encoding="utf-8")

    def add(self, watch: Watch, more: Mapping[str, Any] | None = None) -> None:
        """more: what else goes into the line, such as what the robot says of itself."""
        self._watch = watch
        self.events += watch.events
        for slow in watch.slow:
            if slow.ms is not None:
                self.s2_ms.append(slow.ms)
                self.s2_times.append(slow.time)
                self.s2_delays.append(slow.time - (slow.stamp or 0.0))
        for fast in watch.fast:
            if not self.holds or fast.waits != self.holds[-1][1]:
                self.holds.append((fast.time, fast.waits))
            if fast.age_s is not None:
                self.age_times.append(fast.time)
                self.ages.append(fast.age_s)
            if fast.ms is not None:
                self.s1_ms.append(fast.ms)
                self.s1_times.append(fast.time)
                self.s1_delays.append(fast.delay)
                self.late_chunks += fast.late
                self.refused_chunks += bool(fast.refused)
        self._write(watch, {**self._weigh(), **(more or {})})

    def _weigh(self) -> dict[str, Any]:
        """What the processes hold, if it is time to look again."""
        now = time.monotonic()
        if self.memory and now < self.memory[-1][0] + _WEIGH_EVERY:
            return {}
        held = memory_of_parts()
        self.memory.append((now, held))
        return {"memory_mb": held}

    def live(self) -> dict[str, Any]:
        """The last moments, for a line on a terminal."""
        now = time.monotonic()
        state = self._watch.command if self._watch else None
        return {
            "S1 Hz": _rate(self.s1_times, now),
            "S2 Hz": _rate(self.s2_times, now),
            "S2 age s": self.ages[-1] if self.ages else None,
            "waits": self.holds[-1][1] if self.holds else "start",
            "away": self._watch.fast[-1].away if self._watch and self._watch.fast else "",
            "commands": state.tick if state else 0,
            "missed": state.missed if state else 0,
            "stopped": state.stopped if state else None,
            "clamps": sum(state.counts.values()) if state else 0,
        }

    def summary(self) -> dict[str, Any]:
        """Plain values: rates over the whole run, medians, counts."""
        seconds = max((self.ended or time.monotonic()) - self.began, 1e-9)
        state = self._watch.command if self._watch else None
        return {
            "seconds": seconds,
            "s1_hz": len(self.s1_times) / seconds,
            "s2_hz": len(self.s2_times) / seconds,
            "s1_ms": percentiles(self.s1_ms),
            "s2_ms": percentiles(self.s2_ms),
            "s2_age_s": percentiles(self.ages),
            "late_chunks": self.late_chunks,
            "refused_chunks": self.refused_chunks,
            "missed": state.missed if state else 0,
            "starvations": state.starvations if state else 0,
            "clamps": dict(state.counts) if state else {},
            "stopped": state.stopped if state else None,
            "memory_mb": self.memory[-1][1] if self.memory else {},
            "scheduling": state.scheduling if state else "",
            "events": self.events,
        }

    def close(self) -> None:
        """The run is over: what the parts do while they end does not count."""
        self.ended = time.monotonic()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, watch: Watch, more: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        command = watch.command
        line = {
            "time": time.monotonic(),
            "s1": [asdict(report) for report in watch.fast],
            "s2": [asdict(report) for report in watch.slow],
            "command": {
                name: getattr(command, name)
                for name in ("phase", "tick", "late", "missed", "held", "at_rest", "stopped", "starvations", "counts")
            },
            "events": watch.events,
            **more,
        }
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            self.lost = f"telemetry ends here: {error.strerror or error}"
            self._file = None


def percentiles(values: Sequence[float] | Float[np.ndarray, " N"]) -> dict[str, float | None]:
    if not len(values):
        return {"p50": None, "p99": None, "max": None}
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "max": float(max(values))}


def _rate(times: Sequence[float], now: float) -> float:
    return sum(moment > now - _RECENT for moment in times[-1000:]) / _RECENT
