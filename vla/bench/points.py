"""One condition of a study, measured once: its outcomes are kept in a file, so that an interrupted study goes on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vla.errors import UserError
from vla.evaluation.console import progress_bar
from vla.evaluation.pool import Crew, Job, Part
from vla.evaluation.setup import Setup
from vla.evaluation.statistics import percentiles


@dataclass(frozen=True)
class Measured:
    """outcomes: in seed order. s1_ms: percentiles of a chunk's computation."""

    outcomes: list[bool]
    s1_ms: dict[str, float | None]


def families_in_turn(setup: Setup, tasks: Sequence[str], episodes: int, seed: int) -> list[Part]:
    """Family i of n plays the seeds seed + i, seed + i + n, ..."""
    turns = (range(which, episodes, len(tasks)) for which in range(len(tasks)))
    return [
        (replace(setup, task=task), [Job(index, seed + index) for index in turn])
        for task, turn in zip(tasks, turns, strict=True)
    ]


def measure(file: Path, asked: dict[str, Any], parts: Sequence[Part], players: Crew) -> Measured:
    """Have `parts` played, or read what `file` knows of them.

    asked: everything that decides the outcomes, as plain JSON. Raises UserError if the file is of something else.
    """
    if file.is_file():
        known = json.loads(file.read_text(encoding="utf-8"))
        if known.get("asked") != asked:
            raise UserError(f"bench: {file} is of another study; choose another --out")
        return Measured(known["outcomes"], known.get("s1_ms", {}))
    outcomes: dict[int, bool] = {}
    chunks: list[float] = []
    with progress_bar(file.stem, sum(len(jobs) for _, jobs in parts)) as show:
        for result in players.play(parts):
            outcomes[result.index] = result.success
            chunks += result.s1_ms
            show(result)
    found = Measured([outcomes[index] for index in sorted(outcomes)], percentiles(chunks))
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({"asked": asked, **vars(found)}), encoding="utf-8")
    partial.replace(file)
    return found
