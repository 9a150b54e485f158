"""Two policies on the same episodes: how often one succeeds where the other fails."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vla.errors import UserError
from vla.evaluation.paired import paired_difference


@dataclass(frozen=True)
class Wanted:
    """The episodes that a run plays, with the words; how (delays, variant) may be what is compared."""

    env: str
    seed: int
    episodes: int
    task: str
    split: str
    swap: bool
    paraphrase: bool


def read_other(file: Path, wanted: Wanted) -> dict[str, Any]:
    """The document of an earlier `vla eval --json`; UserError if it is none, or of other episodes."""
    try:
        other = json.loads(file.read_text(encoding="utf-8"))
        options = other["options"]
        changes = {*options.get("perturb", ()), *(["swap"] if options.get("swap") else [])}  # older files say it apart
        same = other["env"], other["seed"], other["episodes"], options["task"], options["split"]
        known = asdict(Wanted(*same, "swap" in changes, "paraphrase" in changes))
        complete = len(other["details"]) == other["episodes"] and isinstance(other["policy"], str)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--compare: {file} is no result of vla eval --json ({error})") from None
    if not complete:
        raise UserError(f"--compare: {file} is no result of vla eval --json (its episodes are incomplete)")
    differing = [
        f"{name} {known[name]!r}, now {value!r}" for name, value in asdict(wanted).items() if known[name] != value
    ]
    if differing:
        raise UserError(f"--compare: {file} has other episodes ({', '.join(differing)}); pairs need the same")
    return other


def compare(
    document: Mapping[str, Any], other: Mapping[str, Any], groups: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """{"policy", "per_group": {name: ...}, "all": {"episodes", "won", "lost", "difference", "ci95"}}.

    Differences are ours minus theirs, paired by episode. Episodes are alike in both by `read_other`.
    """
    ours, theirs = document["details"], other["details"]
    pairs = list(zip(ours, theirs, strict=True))
    per_group = {name: [pair for pair in pairs if pair[0]["task"] in tasks] for name, tasks in groups.items()}
    return {
        "policy": other["policy"],
        "per_group": {name: _difference(some) for name, some in per_group.items() if some},
        "all": _difference(pairs),
    }


def _difference(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, Any]:
    ours, theirs = ([bool(one["success"]) for one in side] for side in zip(*pairs, strict=True))
    found = paired_difference(ours, theirs)
    told = {"episodes": len(pairs), "won": found.won, "lost": found.lost}
    return told | {"difference": found.value, "ci95": [found.low, found.high]}


def print_comparison(compared: Mapping[str, Any]) -> None:
    """Points of success more (or fewer) than the other policy, with the interval of the paired difference."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"beside {Path(compared['policy']).name}")
    for name in ("episodes", "won", "lost", "difference", "95 % interval"):
        table.add_column(name, justify="right")
    for name, row in (*compared["per_group"].items(), ("all", compared["all"])):
        table.add_row(name, *comparison_cells(row))
    Console().print(table)


def comparison_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Episodes, won, lost, difference and interval, in points."""
    low, high = row["ci95"]
    counts = (str(row[name]) for name in ("episodes", "won", "lost"))
    return *counts, f"{100 * row['difference']:+.1f}", f"{100 * low:+.0f} to {100 * high:+.0f}"
