"""Many episodes in several processes; the results do not depend on how many."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Protocol

from vla.errors import UserError
from vla.evaluation.episode import EpisodeResult
from vla.evaluation.setup import Setup
from vla.runtime.loop import Policy

if TYPE_CHECKING:
    from vla.evaluation.player import Players


@dataclass(frozen=True)
class Job:
    """One episode to play. instruction: what to ask, None for what the setup's choice picks."""

    index: int
    seed: int
    instruction: str | None = None


Part = tuple[Setup, Sequence[Job]]
_Waiting = queue.SimpleQueue[tuple[Setup, Job]]
_Events = queue.SimpleQueue[EpisodeResult | Exception]


class Crew(Protocol):
    """Who plays episodes; it stays from one call to the next, with the policies it has loaded."""

    def play(self, parts: Sequence[Part]) -> Generator[EpisodeResult]:
        """Play every job of every part, yielding results as they come; to be taken to its end.

        Raises UserError as `Player` does, RuntimeError if a worker died.
        """
        ...


@contextmanager
def crew(workers: int, policy: Policy | None = None) -> Iterator[Crew]:
    """With a policy given, or one worker, this process; else `workers` processes, which are gone at the end.

    Each runs torch on one thread, so that the arithmetic is the same everywhere.
    """
    if policy is not None or workers == 1:
        from vla.evaluation.player import Players

        with Players(policy) as players:
            yield _ThisProcess(players)
        return
    processes = _Processes(workers)
    try:
        yield processes
    finally:
        processes.stop()


def play_all(setup: Setup, jobs: Sequence[Job], workers: int, policy: Policy | None = None) -> Generator[EpisodeResult]:
    """As `crew`, for one setup. When the iterator is closed or interrupted, the processes are gone."""
    with crew(min(workers, len(jobs)), policy) as players:
        yield from players.play([(setup, jobs)])


class _ThisProcess:
    def __init__(self, players: "Players") -> None:
        self._players = players

    def play(self, parts: Sequence[Part]) -> Generator[EpisodeResult]:
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for setup, jobs in parts:
                for job in jobs:
                    yield self._players.of(setup).play(job.index, job.seed, job.instruction)
        finally:
            torch.set_num_threads(threads)


class _Processes:
    def __init__(self, count: int) -> None:
        self._workers: list[_WorkerProcess] = []
        self._count = count

    def play(self, parts: Sequence[Part]) -> Generator[EpisodeResult]:
        while len(self._workers) < self._count:
            self._workers.append(_WorkerProcess())
        waiting: _Waiting = queue.SimpleQueue()
        for setup, jobs in parts:
            for job in jobs:
                waiting.put((setup, job))
        events: _Events = queue.SimpleQueue()
        for worker in self._workers:
            threading.Thread(target=worker.serve, args=(waiting, events), daemon=True).start()
        for _ in range(sum(len(jobs) for _, jobs in parts)):
            event = events.get()
            if isinstance(event, Exception):
                raise event
            yield event

    def stop(self) -> None:
        for worker in self._workers:
            worker.stop()


class _WorkerProcess:
    """The parent's end of one `vla.evaluation.worker`."""

    def __init__(self) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vla.evaluation.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._setup: Setup | None = None

    def serve(self, waiting: _Waiting, events: _Events) -> None:
        """Feed the process one job after the other until none is left; runs in a thread of its own."""
        try:
            while True:
                try:
                    setup, job = waiting.get_nowait()
                except queue.Empty:
                    return
                if setup != self._setup:
                    self._ask({"setup": setup.to_dict()})
                    self._setup = setup
                reply = self._ask({"job": asdict(job)})
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
