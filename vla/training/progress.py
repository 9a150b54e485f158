"""How far training is, for the person."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def steps_bar(steps: int | None, done: int, shown: bool) -> Iterator[Callable[[int, float], None]]:
    """A bar with rate and time left on a terminal, else a line a minute; if `shown`. Yields advance(step, loss)."""
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.2f} steps/s  loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), disable=not (shown and sys.stderr.isatty()))
    started = said = time.monotonic()
    with bar:
        task = bar.add_task("training", total=steps, completed=done, rate=0.0, loss=float("nan"))

        def advance(step: int, loss: float) -> None:
            nonlocal said
            now = time.monotonic()
            rate = (step - done) / max(1e-9, now - started)
            bar.update(task, completed=step, rate=rate, loss=loss)
            if shown and bar.disable and (now - said > 60 or step == steps):
                said = now
                of = "" if steps is None else f" of {steps}"
                print(f"step {step}{of}, {rate:.2f} steps/s, loss {loss:.4f}", file=sys.stderr, flush=True)

        yield advance
