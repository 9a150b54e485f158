"""A loop that does nothing, 200 times a second, while something is measured: no loop of ours can be more regular."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float

from vla.bench.regularity import regularity
from vla.bench.table import Row
from vla.evaluation.realtime import RealTimeRun, RunResult, run_in_real_time
from vla.processes import SPAWN, Ending, real_time, sleep_until
from vla.robots.sim_wires import DT

IDLE = "an empty loop at the same time"

Times = Float[np.ndarray, " N"]


@contextmanager
def idle_loop(priority: int) -> Iterator[Callable[[], Times]]:
    """Runs it on the first core, under SCHED_FIFO at `priority` if that is granted, in a process of its own.

    Gives what ends it and returns when it was awake (s, on `time.monotonic`).
    """
    ours, its = SPAWN.Pipe()
    process = SPAWN.Process(target=_idle, args=(its, priority, os.getpid()), daemon=True)
    process.start()
    its.close()

    def ended() -> Times:
        ours.send(None)
        times: Times = ours.recv()
        process.join()
        return times

    try:
        yield ended
    finally:
        process.terminate()
        process.join()
        ours.close()


def run_beside_idle(run: RealTimeRun) -> tuple[RunResult, list[Row]]:
    """`run_in_real_time`, and how regular its commands were beside the empty loop, from the first to the last."""
    with idle_loop(run.how.command.priority + 1) as ended:
        result = run_in_real_time(run)
        idle = ended()
    receipts = result.receipts
    meanwhile = idle[(idle >= receipts[0]) & (idle <= receipts[-1])]
    ours, theirs = (regularity(times, 1 / DT) for times in (receipts, meanwhile))
    kinds = (("period error p99", "ms"), ("largest gap", "ms"))
    return result, [Row(kind[0], ours[kind], kind[1], IDLE, theirs[kind]) for kind in kinds]


def _idle(pipe: Any, priority: int, parent: int) -> None:
    """The process's main function."""
    ending = Ending(parent)
    real_time(priority, min(os.sched_getaffinity(0)))
    times: list[float] = []
    deadline = time.monotonic()
    while not ending and not pipe.poll():
        deadline = max(deadline + DT, time.monotonic() - DT)
        sleep_until(deadline)
        times.append(time.monotonic())
    if not ending:
        pipe.send(np.array(times))
