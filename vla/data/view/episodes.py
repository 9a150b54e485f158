"""What every view shows of an episode."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vla.data.annotations import FILE, Annotation, read_annotations
from vla.data.doctor.recording import Recording
from vla.errors import UserError

FIRST = 3
"""Episodes shown if none is asked for."""


@dataclass(frozen=True)
class Shown:
    """texts: the instructions; subtasks: (start, stop, text), frames counted from the episode's start.

    annotation: what was said of it afterwards, if anything was.
    """

    number: int
    rows: slice
    texts: tuple[str, ...]
    subtasks: tuple[tuple[int, int, str], ...]
    annotation: Annotation | None = None


def episodes_to_show(recording: Recording, number: int | None) -> list[Shown]:
    """One episode, or the first few. Raises UserError if there is no such episode."""
    if number is not None and number not in recording.episodes:
        raise UserError(
            f"dataset {recording.root}: no episode {number}; it has {len(recording.episodes)}, from "
            f"{min(recording.episodes)} to {max(recording.episodes)}"
        )
    numbers = [number] if number is not None else list(recording.episodes)[:FIRST]
    texts = {entry.number: entry.tasks for entry in recording.entries}
    subtasks = recording.strings("subtask")
    said = read_annotations(recording.root / "meta" / FILE)
    return [
        Shown(n, rows, texts.get(n, ()), _stretches(subtasks, rows), said.get(n))
        for n, rows in ((n, recording.episodes[n]) for n in numbers)
    ]


def _stretches(texts: list[str] | None, rows: slice) -> tuple[tuple[int, int, str], ...]:
    if texts is None:
        return ()
    own = np.array(texts[rows])
    edges = [0, *(np.flatnonzero(own[1:] != own[:-1]) + 1), len(own)]
    return tuple((int(a), int(b), str(own[a])) for a, b in pairwise(edges) if own[a])
