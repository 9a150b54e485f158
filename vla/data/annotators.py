"""Who can put words to an episode: the simulator's own record, a VLM that looks at a contact sheet, a policy's S2."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla.data.annotations import LONGEST, QuestionAnswer, Subtask, Words
from vla.data.contact_sheet import contact_sheet
from vla.data.doctor.pictures import frames_at
from vla.data.doctor.recording import Recording
from vla.data.lerobot_v3 import IMAGES
from vla.errors import UserError
from vla.strict import parse

TRUTH = ("subtask", "progress", "target_pixel", "next.success")
"""Columns of `vla collect`."""
ASK = (
    "The picture is a contact sheet: {count} frames of one camera of a robot, row by row, in the order of time, each "
    "under its time in seconds. The episode lasts {seconds:.1f} s.{told}\n"
    "Say what the robot really did, whatever it was told. Answer with one JSON object and nothing else, of this form:\n"
    "{form}\n"
    "instruction: one short imperative sentence that asks for what was done. subtasks: its steps, in order, without "
    "overlap, from 0 to {seconds:.1f} s. questions: two to four about what is to be seen at a time, with short answers."
)
FORM = json.dumps(
    {
        "instruction": "...",
        "subtasks": [{"start": 0.0, "stop": 1.5, "text": "..."}],
        "questions": [{"at": 0.0, "question": "...", "answer": "..."}],
    }
)
_HOW_FAR = re.compile(r",?\s*\d+ percent$")


class Unusable(Exception):
    """What was said of an episode cannot be used; the text says why."""


@dataclass(frozen=True)
class Asked:
    """An episode: its rows in `recording`, and the words it was recorded under."""

    recording: Recording
    number: int
    rows: slice
    task: str

    @property
    def frames(self) -> int:
        return self.rows.stop - self.rows.start

    @property
    def seconds(self) -> float:
        return self.frames / self.recording.fps

    def time(self, frame: int) -> float:
        """Seconds from the episode's start, to the millisecond."""
        return round(frame / self.recording.fps, 3)

    def spread(self, count: int) -> list[int]:
        """Up to so many frames, evenly over the episode, its first and last among them."""
        return [int(i) for i in np.unique(np.linspace(0, self.frames - 1, min(count, self.frames)).round())]

    def pictures(self, camera: str, frames: Iterable[int]) -> list[NDArray[np.uint8]]:
        """Unusable if one of them cannot be read."""
        wanted = [self.rows.start + frame for frame in frames]
        found = frames_at(self.recording, IMAGES + camera, wanted)
        missing = [row - self.rows.start for row in wanted if row not in found]
        if missing:
            raise Unusable(f"frame {missing[0]} of camera {camera} cannot be read")
        return [found[row] for row in wanted]


class Annotator(Protocol):
    """Raises Unusable for an episode that nothing can be said of."""

    def __call__(self, asked: Asked) -> Words: ...


class TruthAnnotator:
    """What `vla collect` knew while it recorded; UserError if the dataset has no such columns.

    The instruction is the recorded one where it was followed; what a failed episode did instead, nobody knows.
    """

    def __init__(self, recording: Recording) -> None:
        subtasks = recording.strings("subtask")
        missing = [key for key in TRUTH if key not in recording.info["features"]]
        if missing or subtasks is None:
            column = missing[0] if missing else "subtask"
            raise UserError(
                f"dataset {recording.root}: no column {column}, so it was not recorded by vla collect; "
                "use --policy or --vlm"
            )
        self._subtasks = subtasks

    def __call__(self, asked: Asked) -> Words:
        progress, target, success = (asked.recording.vectors(key)[asked.rows] for key in TRUTH[1:])
        steps = _stretches(self._subtasks[asked.rows], asked)
        questions = []
        for step in steps:
            middle = min(round((step.start + step.stop) / 2 * asked.recording.fps), asked.frames - 1)
            at = asked.time(middle)
            if np.isfinite(progress[middle, 0]):
                questions.append(QuestionAnswer(at, "how far is it?", f"{round(100 * progress[middle, 0])} percent"))
            if (target[middle] >= 0).all() and (target[middle] <= 1).all():
                u, v = (round(100 * float(x)) for x in target[middle])
                answer = f"{u} percent from the left, {v} percent from the top"
                questions.append(QuestionAnswer(at, "where in the picture is what it is about?", answer))
        done = bool(success[-1, 0])
        questions.append(QuestionAnswer(asked.time(asked.frames - 1), "is it done?", "yes" if done else "no"))
        return Words(asked.task if done else "", steps, tuple(questions))


class SheetAnnotator:
    """ask: (contact sheet (H, W, 3), what is asked) to what a VLM answers. camera: whose pictures; count: how many.

    An answer that is not as it was asked for is asked for again, with the reason, `tries` times in all.
    """

    def __init__(
        self, ask: Callable[[NDArray[np.uint8], str], str], camera: str, count: int = 12, tries: int = 3
    ) -> None:
        self._ask, self._camera, self._count, self._tries = ask, camera, count, tries

    def __call__(self, asked: Asked) -> Words:
        frames = asked.spread(self._count)
        sheet = contact_sheet(asked.pictures(self._camera, frames), [asked.time(frame) for frame in frames])
        told = f' The robot was told: "{asked.task}".' if asked.task else ""
        question = ASK.format(count=len(frames), seconds=asked.seconds, told=told, form=FORM)
        why = ""
        for _ in range(self._tries):
            again = f"\nYour last answer could not be used: {why}." if why else ""
            try:
                return read_answer(self._ask(sheet, question + again), asked.seconds)
            except Unusable as error:
                why = str(error)
        raise Unusable(why)


class SpokenAnnotator:
    """say: (camera -> pictures, the recorded words) to what S2 says at work, a line per picture.

    cameras: those S2 looks through. every: seconds between two looks. The instruction stays the recorded one: S2 says
    what is due under it, and does not guess at another.
    """

    def __init__(
        self,
        say: Callable[[Mapping[str, list[NDArray[np.uint8]]], str], list[str]],
        cameras: tuple[str, ...],
        every: float = 0.25,
    ) -> None:
        self._say, self._cameras, self._every = say, cameras, every

    def __call__(self, asked: Asked) -> Words:
        stride = max(1, round(self._every * asked.recording.fps))
        frames = list(range(0, asked.frames, stride))
        said = self._say({camera: asked.pictures(camera, frames) for camera in self._cameras}, asked.task)
        texts = [_line(_HOW_FAR.sub("", text)) for text in said]
        steps = _stretches([text for text in texts for _ in range(stride)][: asked.frames], asked)
        if not steps:
            raise Unusable("S2 said nothing")
        first = (_line(said[round(step.start * asked.recording.fps) // stride]) for step in steps)
        questions = (QuestionAnswer(step.start, "what now?", text) for step, text in zip(steps, first, strict=True))
        return Words("", steps, tuple(questions))


def read_answer(text: str, seconds: float) -> Words:
    """The words in an answer: one JSON object, whatever is written around it. Unusable says what is wrong with it."""
    start = text.find("{")
    if start < 0:
        raise Unusable("it holds no JSON object")
    try:
        data, _ = json.JSONDecoder().raw_decode(text, start)
        words = parse(Words, data, "it")
    except json.JSONDecodeError as error:
        raise Unusable(f"its JSON breaks off or is malformed at character {error.pos} ({error.msg})") from None
    except (UserError, ValueError, OverflowError, RecursionError) as error:
        raise Unusable(str(error).removeprefix("it: ")) from None
    if not words.instruction:
        raise Unusable("instruction is empty")
    if not words.end <= seconds + 0.05:
        raise Unusable(f"it speaks of {words.end:g} s, the episode lasts {seconds:.1f} s")
    return words


def _stretches(texts: list[str], asked: Asked) -> tuple[Subtask, ...]:
    """Runs of the same text over the frames; nameless ones are left out."""
    edges = [0, *(i for i in range(1, len(texts)) if texts[i] != texts[i - 1]), len(texts)]
    return tuple(Subtask(asked.time(a), asked.time(b), _line(texts[a])) for a, b in pairwise(edges) if _line(texts[a]))


def _line(text: str) -> str:
    """As one printable line of allowed length."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:LONGEST]
