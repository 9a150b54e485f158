"""What a robot's world knows of the task: a simulated one sets up scenes, asks for something and judges it."""

from __future__ import annotations

from typing import Any

from vla.errors import UserError
from vla.robots.base import DistantRobot, Robot, SimulatedRobot


class Scenes:
    """exist: False for a robot that nobody can set up but a person. instruction: what is asked; `first` where no scene
    asks for anything. possible: all that can be asked in this scene, as far as it says.
    """

    def __init__(self, robot: Robot, first: str = "") -> None:
        self._robot: SimulatedRobot | DistantRobot | None = None
        if isinstance(robot, SimulatedRobot) or (isinstance(robot, DistantRobot) and robot.has_scenes):
            self._robot = robot
        self.exist = self._robot is not None
        self.instruction, self.possible = first, tuple[str, ...]()

    @property
    def success(self) -> bool | None:
        """None: nobody judges."""
        return None if self._robot is None else bool(self._robot.success)

    def begun(self) -> None:
        """A new scene is there: read what it asks."""
        if self._robot is not None:
            self.instruction = self._robot.instruction
        if isinstance(self._robot, SimulatedRobot):
            self.possible = tuple(dict.fromkeys(one.text for one in self._robot.instructions()))

    def instruct(self, text: Any) -> bool:
        """Ask for something else; returns whether whoever judges can judge it. UserError for what says nothing."""
        words = " ".join(text.split())[:200] if isinstance(text, str) else ""
        if not words:
            raise UserError("say what is to be done")
        self.instruction = words
        if self._robot is not None:
            try:
                self._robot.set_instruction(words)
            except UserError:
                return False
        return True
