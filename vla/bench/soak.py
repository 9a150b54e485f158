"""A run in wall-clock time that is long: does it keep its rate, does its memory grow, does it leave anything behind?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla.bench.idle_loop import run_beside_idle
from vla.bench.regularity import regularity
from vla.bench.table import Row, report
from vla.evaluation.realtime import RealTimeRun
from vla.policies import device_of
from vla.processes import SPAWN
from vla.robots.sim_wires import DT, World

EARLIER = "after a tenth of the time"
_SHARED = Path("/dev/shm")


def bench_soak(policy: str, env: str, seed: int, length: float, out: Path, device: str = "cpu") -> dict[str, Any]:
    """`length` seconds on one scene; returns the benchmark document. Telemetry, logs and the plot stay in `out`.

    Memory is that of each process, its median over the last tenth of the time, beside its median over the second tenth.
    """
    before, where = _left(), device_of(policy, device)
    run = RealTimeRun(policy, World(env, seed), length, out, until_done=False, device=device)
    result, beside_idle = run_beside_idle(run)
    summary = result.telemetry.summary()
    pace = regularity(result.receipts, 1 / DT)
    rows = [Row(name, pace[name, unit], unit) for name, unit in (("commands", "1/s"), ("period error p50", "ms"))]
    rows += beside_idle
    rows += [Row("S1 replans", summary["s1_hz"], "1/s"), Row("S2 thoughts", summary["s2_hz"], "1/s")]
    rows += memory_rows(result.telemetry.memory)
    rows.append(Row("processes and shared memory left behind", len(_left() - before), ""))
    document = report(f"{length:g} s of {policy} in real time on {where}; {summary['scheduling']}", rows)
    return {**document, "device": where, "details": summary}


def memory_rows(memory: Sequence[tuple[float, Mapping[str, float]]]) -> list[Row]:
    """memory: as in `RunTelemetry`. A process that was not there all the time has no row."""
    tenth = max(len(memory) // 10, 1)
    early, late = (_medians(part) for part in (memory[tenth : 2 * tenth] or memory, memory[-tenth:]))
    return [Row(f"memory of {name}", late[name], "MB", EARLIER, early[name]) for name in early if name in late]


def _medians(memory: Sequence[tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    names = set.intersection(*(set(held) for _, held in memory))
    return {name: float(np.median([held[name] for _, held in memory])) for name in sorted(names)}


def _left() -> set[str]:
    """Our processes that run, and what lies in shared memory."""
    shared = os.listdir(_SHARED) if _SHARED.is_dir() else []
    return {f"process {one.pid}" for one in SPAWN.active_children()} | {f"shared memory {name}" for name in shared}
