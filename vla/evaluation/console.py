"""What a person at a terminal sees of an evaluation: a progress bar on stderr, a table on stdout."""

import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from vla.evaluation.episode import EpisodeResult
from vla.s2.places import plain_words

Show = Callable[[EpisodeResult], None]


@contextmanager
def progress_bar(what: str, episodes: int, lines: bool = False) -> Iterator[Show]:
    """Yields what to call with each result. Count, success so far, rate and time left on stderr, if it is a terminal.

    lines: also print one line per episode on stdout, above the bar where there is one.
    """
    errors = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("{task.fields[success]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    done = wins = 0
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as progress:
        bar = progress.add_task(what, total=episodes, success="", rate="starting")

        def show(result: EpisodeResult) -> None:
            nonlocal done, wins
            done, wins = done + 1, wins + result.success
            elapsed = progress.tasks[0].elapsed or 0.0
            rate = f"{done / elapsed:.2f}/s" if elapsed else ""
            progress.update(bar, advance=1, success=f"{100 * wins / done:.0f} % success", rate=rate)
            if lines:
                out = progress.console if errors.is_terminal and Console().is_terminal else Console(soft_wrap=True)
                out.print(episode_line(result), highlight=False)

        yield show


def episode_line(result: EpisodeResult) -> str:
    """Index, instruction, what S2 says, success and steps, with rich markup."""
    said = f"“{textwrap.shorten(plain_words(result.words), 40, placeholder='…')}”" if result.words else "-"
    outcome = "[green]success[/green]" if result.success else "[red]failure[/red]"
    return f"{result.index + 1:>3}  {result.instruction:<54} S2: {said:<24} {outcome}  {result.steps:>3} steps"


def print_summary(document: Mapping[str, Any]) -> None:
    """Success by family and by group of families with intervals, and latencies."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("family")
    for name in ("episodes", "success", "95 % interval"):
        table.add_column(name, justify="right")
    for name, group in document["per_task"].items():
        table.add_row(name, *_cells(group))
    if document["per_group"]:
        table.add_section()
        for name, group in document["per_group"].items():
            table.add_row(name, *_cells(group))
        table.add_row("mean of the groups", "", f"{100 * document['group_mean']:.1f} %", "")
    table.add_section()
    table.add_row("all", *_cells(document), style="bold")
    held_out = {name: group for name, group in document["per_split"].items() if name != "train"}
    if held_out:
        table.add_section()
    for name, group in held_out.items():
        table.add_row(f"held-out {name}", *_cells(group))
    out = Console()
    out.print(table)
    if note := spread(document):
        out.print(note, highlight=False, soft_wrap=True)
    if note := untold(document["counts"].get("unparaphrased", 0)):
        out.print(note, highlight=False)
    latency = document["latency"]
    for key, name, unit in (("s1_ms", "S1", "ms"), ("s2_ms", "S2", "ms"), ("s2_age_s", "age of thoughts", "s")):
        if latency[key]["p50"] is not None:
            shown = ", ".join(f"{percent} {value:.3g} {unit}" for percent, value in latency[key].items())
            out.print(f"{name}: {shown}", highlight=False)
    if "episodes_per_minute" in document:
        rate, workers = document["episodes_per_minute"], document["workers"]
        out.print(f"{rate:.1f} episodes a minute, {workers} at a time", highlight=False)


def spread(document: Mapping[str, Any]) -> str:
    """Of a run in repeats: what each came to, their mean and standard deviation."""
    if "repeats" not in document:
        return ""
    found, what = document["repeats"], "mean of the groups" if document["per_group"] else "success"
    rates = ", ".join(f"{100 * rate:.1f}" for rate in found["rates"])
    told = f"mean {100 * found['mean']:.1f}, standard deviation {100 * found['std']:.1f} points"
    return f"{what} in {len(found['rates'])} repeats: {rates} %; {told}"


def untold(count: int) -> str:
    """Of episodes that were to be paraphrased."""
    return f"{count} of them in their own words, because they have no others" if count else ""


def _cells(group: Mapping[str, Any]) -> tuple[str, str, str]:
    low, high = group["ci95"]
    return str(group["episodes"]), f"{100 * group['success_rate']:.1f} %", f"{100 * low:.0f}-{100 * high:.0f} %"
