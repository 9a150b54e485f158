"""Work on spans of items in processes of their own, each with its own simulator and OpenGL context."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from vla.data.staging import Span
from vla.errors import UserError

Report = Callable[[Any], None]


class Worker(Protocol):
    """Does one span at a time; calls `report` after each item with whatever the parent should know."""

    def run(self, span: Span, report: Report) -> None: ...

    def close(self) -> None: ...


def run_spans[S](
    make_worker: Callable[[S], Worker], settings: S, spans: Sequence[Span], workers: int, on_item: Report
) -> None:
    """Run every span in one of `workers` spawned processes; `on_item` receives the reports in the order they come.

    Raises UserError or RuntimeError as the worker did; then, or when interrupted, all processes are stopped.
    """
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(spans))
    processes = []
    open_connections: list[Connection] = []
    try:
        for _ in range(min(workers, len(spans))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(make_worker, settings, theirs), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            open_connections.append(ours)
            ours.send(waiting.pop())
        while open_connections:
            for connection in wait(open_connections):
                assert isinstance(connection, Connection)
                kind, value = _receive(connection)
                if kind == "item":
                    on_item(value)
                elif kind == "done" and waiting:
                    connection.send(waiting.pop())
                elif kind == "done":
                    connection.send(None)
                    open_connections.remove(connection)
                else:
                    raise UserError(value) if kind == "refused" else RuntimeError(f"a worker failed:\n{value}")
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()


def _receive(connection: Connection) -> tuple[str, Any]:
    try:
        return connection.recv()
    except (EOFError, ConnectionError):
        return "failed", "its process ended without a word (killed, or out of memory?)"


def _work(make_worker: Callable[[Any], Worker], settings: Any, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    worker = None
    try:
        while span := connection.recv():
            worker = worker or make_worker(settings)
            worker.run(span, lambda value: connection.send(("item", value)))
            connection.send(("done", span))
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone: leave the unfinished part for the next run to remove
    except UserError as error:
        connection.send(("refused", str(error)))
    except Exception:
        connection.send(("failed", traceback.format_exc()))
    finally:
        if worker is not None:
            worker.close()


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


@contextmanager
def progress_bar(what: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yields `advance(count)`; shows count, rate and time left on stderr if a person is looking."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(what, total=total, completed=done)
        yield lambda count: progress.advance(task, count)
