"""Many episodes in several processes; the results do not depend on how many."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import IO

from vla.errors import UserError
from vla.evaluation.episode import EpisodeResult
from vla.evaluation.setup import Setup
from vla.runtime.loop import Policy


@dataclass(frozen=True)
class Job:
    """One episode to play. instruction: what to ask, None for what the setup's choice picks."""

    index: int
    seed: int
    instruction: str | None = None


def play_all(setup: Setup, jobs: Sequence[Job], workers: int, policy: Policy | None = None) -> Generator[EpisodeResult]:
    """Play every job, yielding results as they come.

    With a policy given, or one worker, in this process; else in `workers` processes. Each runs torch on one thread, so
    that the arithmetic is the same everywhere. Raises UserError as `Player` does, RuntimeError if a worker died. When
    the iterator is closed or interrupted, the processes are gone.
    """
    if policy is not None or min(workers, len(jobs)) == 1:
        yield from _play_here(setup, jobs, policy)
    else:
        yield from _play_in_processes(setup, jobs, min(workers, len(jobs)))


def _play_here(setup: Setup, jobs: Sequence[Job], policy: Policy | None) -> Generator[EpisodeResult]:
    import torch

    from vla.evaluation.player import Player

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with Player(setup, policy) as player:
            for job in jobs:
                yield player.play(job.index, job.seed, job.instruction)
    finally:
        torch.set_num_threads(threads)


def _play_in_processes(setup: Setup, jobs: Sequence[Job], count: int) -> Generator[EpisodeResult]:
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    events: queue.SimpleQueue[EpisodeResult | Exception] = queue.SimpleQueue()
    workers: list[_WorkerProcess] = []
    try:
        for _ in range(count):
            workers.append(_WorkerProcess(setup))
        for worker in workers:
            threading.Thread(target=worker.serve, args=(waiting, events), daemon=True).start()
        for _ in jobs:
            event = events.get()
            if isinstance(event, Exception):
                raise event
            yield event
    finally:
        for worker in workers:
            worker.stop()


class _WorkerProcess:
    """The parent's end of one `vla.evaluation.worker`."""

    def __init__(self, setup: Setup) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vla.evaluation.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._setup = setup

    def serve(self, waiting: "queue.SimpleQueue[Job]", events: "queue.SimpleQueue[EpisodeResult | Exception]") -> None:
        """Feed the process one job after the other until none is left; runs in a thread of its own."""
        try:
            self._ask(self._setup.to_dict())
            while True:
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    return
                reply = self._ask({"index": job.index, "seed": job.seed, "instruction": job.instruction})
                events.put(EpisodeResult(**reply))
        except Exception as error:  # whatever happened belongs to the caller's thread
            events.put(error)

    def stop(self) -> None:
        """End the process, now."""
        self._process.kill()
        self._process.wait()

    def _ask(self, message: dict) -> dict:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except (BrokenPipeError, ValueError):
            line = ""
        if not line:
            raise RuntimeError(self._obituary())
        kind, value = json.loads(line)
        if kind == "refused":
            raise UserError(value)
        return value

    def _obituary(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        how = f"was killed by signal {-code} (out of memory?)" if code < 0 else f"ended with exit code {code}"
        return "\n".join([f"evaluation: a worker process {how}; its last words:", *(said[-15:] or ["(none)"])])
