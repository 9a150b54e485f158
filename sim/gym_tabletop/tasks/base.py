"""What a task family is: what can be asked in a scene, in which words, and when it is done."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gym_tabletop.scene_truth import Scene, Thing

WORKED_AREA_LOW, WORKED_AREA_HIGH = np.array([0.34, -0.31]), np.array([0.70, 0.31])
"""Where a tool at table height can work (m): goals outside are not asked for."""


@dataclass(frozen=True)
class Request:
    """One thing that can be asked for: the target's name, the goal's name ("" without one) and its place (3,) in m."""

    target: str
    goal: str
    goal_position: tuple[float, float, float]


@dataclass(frozen=True)
class PhysicsState:
    """What a success check may look at, beside the scene: taken from the simulation, never from images.

    start: where each object stood when the instruction was given (m). gripped: names of objects a finger touches.
    opening: measured gripper opening, 0 to 1. speed: of each object, m/s.
    """

    start: dict[str, NDArray[np.float64]]
    gripped: frozenset[str]
    opening: float
    speed: dict[str, float]


class Task(ABC):
    """A task family. `phrasings` and `held_out_phrasings` are templates over {target} and {goal}.

    `held_out_pair` is the colour-shape pair that never is this family's target in training data.
    """

    name: ClassVar[str]
    phrasings: ClassVar[Sequence[str]]
    held_out_phrasings: ClassVar[Sequence[str]]
    held_out_pair: ClassVar[str]
    steps_to_hold: ClassVar[int] = 1
    """Control steps the success condition must hold in a row."""

    @abstractmethod
    def requests(self, scene: Scene) -> list[Request]:
        """Everything this family can ask for in `scene`; empty if nothing."""

    @abstractmethod
    def done(self, request: Request, scene: Scene, physics: PhysicsState) -> bool:
        """Whether the condition holds at this instant."""


def distance(a: ArrayLike, b: ArrayLike) -> float:
    """Distance on the table between two places (m)."""
    return float(np.linalg.norm(np.asarray(a)[:2] - np.asarray(b)[:2]))


def find(scene: Scene, name: str) -> Thing:
    """The thing called `name`."""
    return next(thing for thing in scene.things if thing.name == name)
