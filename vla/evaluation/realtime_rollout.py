"""`vla rollout --real-time`: the two-speed runtime at work, with its rates while it runs."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vla.evaluation.provenance import command_line, git_hash
from vla.evaluation.realtime import RealTimeRun, RunResult, receipt_periods, run_in_real_time
from vla.policies import can_be_exported
from vla.runtime.run_telemetry import RunTelemetry, percentiles

_LINE_EVERY = 1.0
"""Seconds between two lines where there is no terminal to redraw one on."""


def realtime_rollout(run: RealTimeRun) -> RunResult:
    """Drive, print live rates and a summary; leaves telemetry.jsonl, summary.json, run.png and the body's log in
    `run.out`. Raises UserError as `run_in_real_time` does.
    """
    console = Console(soft_wrap=True)
    with _shown(console) as show:
        result = run_in_real_time(run, show)
    summary = {
        **result.telemetry.summary(),
        "policy": run.policy,
        "env": run.world.env,
        "seed": run.world.seed,
        "instruction": result.instruction,
        "solved_s": result.solved_s,
        "period_ms": percentiles(receipt_periods(result.receipts)),
        "git": git_hash(),
        "command": command_line(),
    }
    _print_summary(console, summary)
    for lost in (*result.lost, *_leave(run, summary)):
        console.print(lost, highlight=False)
    console.print(f"telemetry.jsonl, summary.json and run.png are in {run.out}", highlight=False)
    from vla.training.precision import device_named  # loads torch, for which this process had no use before

    if can_be_exported(run.policy) and device_named(run.device) == "cpu":
        faster = f"vla export --policy {run.policy} --out DIR"
        console.print(f"S1 ran in PyTorch: as {faster} makes it, a chunk takes half as long", highlight=False)
    return result


def _leave(run: RealTimeRun, summary: Mapping[str, Any]) -> Iterator[str]:
    """Write the summary; why not, if the disk is full."""
    try:
        (run.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        yield f"summary.json is not whole: {error.strerror or error}"


@contextlib.contextmanager
def _shown(console: Console) -> Iterator[Callable[[RunTelemetry, Any], None]]:
    """One line that is redrawn, or on anything but a terminal a line a second."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda telemetry, body: live.update(Text(_line(telemetry.live(), body)), refresh=True)
        return
    told = 0.0

    def show(telemetry: RunTelemetry, body: Any) -> None:
        nonlocal told
        if time.monotonic() > told + _LINE_EVERY:
            told = time.monotonic()
            console.print(_line(telemetry.live(), body), highlight=False)

    yield show


def _line(live: Mapping[str, Any], body: Any) -> str:
    age = "-" if live["S2 age s"] is None else f"{live['S2 age s']:.2f} s"
    doing = f"holds: {live['waits']}" if live["waits"] else "no answer from the server" if live["away"] else "acts"
    if live["stopped"]:
        doing = f"stopped: {live['stopped']}"
    return (
        f"S1 {live['S1 Hz']:4.1f} Hz   S2 {live['S2 Hz']:4.1f} Hz, age {age}   "
        f"{live['commands']} commands, {live['missed']} late, {live['clamps']} limited   "
        f"{doing}   {body.instruction}{'   done' if body.solved_s is not None else ''}"
    )


def _print_summary(console: Console, summary: Mapping[str, Any]) -> None:
    for event in summary["events"]:
        console.print(event)
    solved = summary["solved_s"]
    console.print(f"{summary['instruction']}: " + ("not done" if solved is None else f"done after {solved:.1f} s"))
    for key, name, unit in (
        ("period_ms", "command period at the robot", "ms"),
        ("s1_ms", "S1 chunk", "ms"),
        ("s2_ms", "S2 thought", "ms"),
        ("s2_age_s", "age of thoughts", "s"),
    ):
        shown = ", ".join(f"{name} {value:.3g} {unit}" for name, value in summary[key].items() if value is not None)
        console.print(f"{name}: {shown or 'none'}", highlight=False)
    console.print(
        f"S1 {summary['s1_hz']:.1f} Hz, S2 {summary['s2_hz']:.1f} Hz, {summary['missed']} late samples; "
        f"{summary['scheduling']}",
        highlight=False,
    )
