"""Words put to recorded episodes afterwards: `meta/annotations.jsonl`, one line of JSON per episode.

What was said when an episode was recorded is in the dataset's tasks, and stays there as it is. An annotation lies
beside it: what was done, as somebody who has seen it says (hindsight), its steps, and questions with answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vla import assets
from vla.errors import UserError
from vla.strict import parse, to_plain

FILE = "annotations.jsonl"
LONGEST = 300
"""Characters in one text."""


@dataclass(frozen=True)
class Subtask:
    """Seconds start to stop of the episode, and what was being done."""

    start: float
    stop: float
    text: str

    def __post_init__(self) -> None:
        check_text("text", self.text)
        if not 0 <= self.start < self.stop:
            raise ValueError(f"stop {self.stop:g} does not come after start {self.start:g}, from 0 on")


@dataclass(frozen=True)
class QuestionAnswer:
    """at: seconds into the episode of the picture that was asked about."""

    at: float
    question: str
    answer: str

    def __post_init__(self) -> None:
        check_text("question", self.question)
        check_text("answer", self.answer)
        if not self.at >= 0:
            raise ValueError(f"at {self.at:g} is not in the episode")


@dataclass(frozen=True)
class Words:
    """What is said of an episode. instruction: the one that what was done would have answered, "" if nothing better is
    known than the recorded one. subtasks: one after the other, gaps allowed.
    """

    instruction: str
    subtasks: tuple[Subtask, ...] = ()
    questions: tuple[QuestionAnswer, ...] = ()

    def __post_init__(self) -> None:
        if self.instruction:
            check_text("instruction", self.instruction)
        for i, (one, following) in enumerate(zip(self.subtasks, self.subtasks[1:], strict=False)):
            if following.start < one.stop:
                raise ValueError(f"subtasks[{i + 1}] starts at {following.start:g} s, within the one before it")

    @property
    def end(self) -> float:
        """The last time (s) that is spoken of."""
        return max([one.stop for one in self.subtasks] + [one.at for one in self.questions], default=0.0)


@dataclass(frozen=True)
class Source:
    """Who says it. model: a VLM, a policy or a simulator; version: of its weights or of the program."""

    kind: Literal["vlm", "policy", "truth", "person"]
    model: str
    version: str


@dataclass(frozen=True)
class Annotation:
    """One line. frames: of the episode, so that words for another recording are found out. recorded: its task then.
    skipped: why there are no words; "" if there are.
    """

    episode: int
    frames: int
    recorded: str
    source: Source
    words: Words | None = None
    skipped: str = ""

    def __post_init__(self) -> None:
        if (self.words is None) != bool(self.skipped):
            raise ValueError("either words or skipped must be given, not both")

    @property
    def instruction(self) -> str:
        """In hindsight; "" if there is none."""
        return self.words.instruction if self.words else ""


def read_annotations(file: Path) -> dict[int, Annotation]:
    """By number of the episode; empty if there is no such file. UserError names the line that is wrong."""
    if not file.is_file():
        return {}
    found: dict[int, Annotation] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        what = f"annotations {file}, line {number}"
        one = parse(Annotation, loads(line, what), what)
        if one.episode in found:
            raise UserError(f"{what}: episode {one.episode} has a line already")
        found[one.episode] = one
    return found


def write_annotations(file: Path, annotations: Iterable[Annotation]) -> None:
    """All of them, in the order of their episodes: the old file is there until the new one takes its place."""
    lines = [
        json.dumps(to_plain(one), ensure_ascii=False, allow_nan=False) + "\n"
        for one in sorted(annotations, key=lambda one: one.episode)
    ]
    assets.write_file(file, "".join(lines), "annotations")


def check_annotations(file: Path, lengths: list[int]) -> None:
    """UserError if a line is about an episode that is not there, or is of another length. lengths: frames of each."""
    for number, one in read_annotations(file).items():
        if not 0 <= number < len(lengths) or lengths[number] != one.frames:
            there = f"it has {lengths[number]}" if 0 <= number < len(lengths) else "there is no such episode"
            raise UserError(
                f"annotations {file}: episode {number} of {one.frames} frames, but {there}; they are of another "
                "dataset: delete the file and use vla data annotate again"
            )


def loads(text: str, what: str) -> Any:
    """JSON without NaN and Infinity, which Python reads and JSON does not have; UserError if it is none."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise UserError(f"{what}: no JSON ({error})") from None


def check_text(name: str, text: str) -> None:
    """ValueError unless it is one line that says something."""
    if not text.strip():
        raise ValueError(f"{name} is empty")
    if len(text) > LONGEST:
        raise ValueError(f"{name} has {len(text)} characters, at most {LONGEST} are allowed")
    if not text.isprintable():
        raise ValueError(f"{name} has characters that cannot be printed")


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number")
