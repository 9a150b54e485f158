"""The protocol between the runtime and a body, real or simulated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vla.errors import UserError
from vla.spec import RobotSpec


@dataclass(frozen=True)
class Observation:
    """What a robot senses at one moment.

    images: camera name -> (H, W, 3) uint8 RGB, named and ordered as in `RobotSpec.cameras`.
    state: (S,) float32 in the spec's units (radians, metres, 1).
    stamp: capture time in seconds on the robot's clock. ages: how much older single cameras, and "state", are.
    """

    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    stamp: float
    ages: Mapping[str, float] = field(default_factory=dict)


class SensesLost(UserError):
    """The robot no longer says what it sees, or where it is. It may again."""


class Body(Protocol):
    """What a control loop needs: to sense, and to command."""

    @property
    def spec(self) -> RobotSpec: ...

    def observe(self) -> Observation:
        """Raises SensesLost while a camera or the joints are gone."""
        ...

    def command(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take one action (A,) in robot units for one control period; returns what was really sent (after clipping)."""
        ...


@runtime_checkable
class Robot(Body, Protocol):
    """A body with a beginning and an end. Everything but `spec` needs `connect` first; `close` may be called twice."""

    def connect(self) -> None:
        """Open cameras and joints. Raises UserError if something it needs is missing."""
        ...

    def reset(self, seed: int | None = None) -> Observation:
        """Bring the body to the start of an episode; in simulation the seed alone decides the scene."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class DistantRobot(Robot, Protocol):
    """A body somewhere else, which may be a simulated one: then its world knows the task."""

    @property
    def has_scenes(self) -> bool:
        """`reset` with a seed sets up a scene, with an instruction and a judge."""
        ...

    @property
    def instruction(self) -> str: ...

    @property
    def success(self) -> bool: ...

    def set_instruction(self, text: str) -> None:
        """UserError if the scene cannot judge it."""
        ...


@runtime_checkable
class SimulatedRobot(Robot, Protocol):
    """A body whose world knows the task: what is asked, and whether it is done."""

    @property
    def max_steps(self) -> int:
        """Control periods an episode may last."""
        ...

    @property
    def instruction(self) -> str: ...

    @property
    def family(self) -> str:
        """Name of the task family of the current instruction, e.g. "push"."""
        ...

    @property
    def success(self) -> bool: ...

    @property
    def finished(self) -> bool:
        """The episode is over: success, or the environment ended it."""
        ...

    def set_instruction(self, text: str) -> None:
        """Ask for something else in the same scene; UserError if this scene cannot judge it."""
        ...

    def instructions(self) -> list[Any]:
        """Everything that can be asked in this scene: objects with .text, .family, .target, .goal and .split."""
        ...

    def paraphrases(self) -> list[str]:
        """What is asked now, in words that are held out from demonstrations; UserError if its world never has any."""
        ...

    def others(self) -> list[str]:
        """Words for other tasks, of which this scene can judge none; empty where it can judge several of its own."""
        ...
