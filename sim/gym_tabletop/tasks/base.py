"""What a task family is: what can be asked in a scene, in which words, and when it is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gym_tabletop.scene_truth import Scene

WORKED_AREA_LOW, WORKED_AREA_HIGH = np.array([0.34, -0.31]), np.array([0.70, 0.31])
"""Where a tool at table height can work (m): goals outside are not asked for."""


@dataclass(frozen=True)
class Request:
    """One thing that can be asked for.

    target, goal: names ("" without a goal); goal_position: its place (3,) in m. words: how the target is described,
    by default its name. stages: what is to be done one after the other; empty: what the family itself does.
    """

    target: str
    goal: str
    goal_position: tuple[float, float, float]
    words: str = ""
    stages: tuple[Stage, ...] = ()

    @classmethod
    def made_of(cls, *stages: Stage, words: str = "") -> Request:
        """What is asked for when it is done in stages: labels at first are those of the first."""
        first = stages[0].request
        return cls(first.target, first.goal, first.goal_position, words, stages)


@dataclass(frozen=True)
class Stage:
    """One step of what was asked: a skill, and what to use it on."""

    skill: Skill
    request: Request


@dataclass(frozen=True)
class PhysicsState:
    """What a success check may look at, beside the scene: taken from the simulation, never from images.

    start: where each object stood when the instruction was given (m). gripped: names of objects a finger touches.
    opening: measured gripper opening, 0 to 1. speed: of each object, m/s. pressed: buttons that have been pressed
    since the instruction was given.
    """

    start: dict[str, NDArray[np.float64]]
    gripped: frozenset[str]
    opening: float
    speed: dict[str, float]
    pressed: frozenset[str] = field(default_factory=frozenset)


class Task(ABC):
    """A task family. `phrasings` and `held_out_phrasings` are templates over {target} and {goal}.

    `held_out_pair` is the colour-shape pair that never is this family's target in training data.
    """

    name: ClassVar[str]
    phrasings: ClassVar[Sequence[str]] = ()
    held_out_phrasings: ClassVar[Sequence[str]] = ()
    held_out_pair: ClassVar[str] = ""
    turning: ClassVar[bool] = False
    """Whether it plays on the turning table; nothing else does."""

    @abstractmethod
    def requests(self, scene: Scene) -> list[Request]:
        """Everything this family can ask for in `scene`; empty if nothing."""

    def sentences(self, request: Request) -> Iterator[tuple[str, str]]:
        """Every sentence that asks for it, with the split it belongs to."""
        held_out = request.target == self.held_out_pair
        words = {"target": request.words or request.target, "goal": request.goal}
        return say(self.phrasings, self.held_out_phrasings, held_out, **words)


class Skill(Task):
    """A family that is one thing to do, from which other families are made."""

    steps_to_hold: ClassVar[int] = 1
    """Control steps the success condition must hold in a row."""

    def finished(self, scene: Scene) -> list[Request]:
        """Everything this skill can be seen to have done already, for skills whose end an image shows."""
        return []

    @abstractmethod
    def done(self, request: Request, scene: Scene, physics: PhysicsState) -> bool:
        """Whether the condition holds at this instant."""


def say(train: Sequence[str], phrasing: Sequence[str], pair: bool, **words: str) -> Iterator[tuple[str, str]]:
    """Every template with its words and its split; `pair`: what it is about is held out, however it is said."""
    for split, templates in (("train", train), ("phrasing", phrasing)):
        for template in templates:
            yield template.format(**words), "pair" if pair else split


def distance(a: ArrayLike, b: ArrayLike) -> float:
    """Distance on the table between two places (m)."""
    return float(np.linalg.norm(np.asarray(a)[:2] - np.asarray(b)[:2]))
