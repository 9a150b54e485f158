"""What is true of a scene: the things on the table, and what one could ask of the robot.

Privileged knowledge for labels, experts and success checks; a policy never sees it. Left and right are as
seen in the front camera image. Pixels are (u, v) in [0, 1] of that image, u to the right and v down.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thing:
    """One thing on the table.

    name: colour and shape, as in palette.CELL_CLASSES ("red cube", "blue tray").
    kind: "object", "tray", "button" or "drawer"; a drawer has no colour, and stands where its handle is.
    position: centre in metres, base frame.
    pixel: where that centre appears in the front image, (u, v) in [0, 1]; may lie outside when not visible.
    visible: enough of it is seen in the front image to be recognised.
    size: its widest half-extent in metres.
    """

    name: str
    colour: str
    shape: str
    kind: str
    position: tuple[float, float, float]
    pixel: tuple[float, float]
    visible: bool
    size: float


@dataclass(frozen=True)
class Scene:
    """All things on the table.

    held: name of the one in the gripper, if any. turning: the objects stand on a turning table.
    opened: how far the drawer is open, 0 to 1; None if there is none.
    """

    things: tuple[Thing, ...]
    held: str | None = None
    turning: bool = False
    opened: float | None = None

    @property
    def objects(self) -> tuple[Thing, ...]:
        return tuple(thing for thing in self.things if thing.kind == "object")

    @property
    def trays(self) -> tuple[Thing, ...]:
        return tuple(thing for thing in self.things if thing.kind == "tray")

    @property
    def buttons(self) -> tuple[Thing, ...]:
        return tuple(thing for thing in self.things if thing.kind == "button")

    def find(self, name: str) -> Thing:
        """The thing called `name`."""
        return next(thing for thing in self.things if thing.name == name)


@dataclass(frozen=True)
class Instruction:
    """One thing a person could ask for in this scene.

    family: what is to be done now: "push", "lift", "place", ...
    target, goal: names of what is to be moved and where to ("left", "yellow tray"); goal is "" without one.
    target_pixel, goal_pixel: their places in the front image, (u, v) in [0, 1]; NaN where there is none.
    split: "train", or why it is held out: "phrasing" (these words) or "pair" (this colour-shape pair).
    task: the task family whose words these are, by default that of what is to be done.
    described: how the words single the target out, if not by its name ("smallest object").
    """

    family: str
    text: str
    target: str
    goal: str
    target_pixel: tuple[float, float]
    goal_pixel: tuple[float, float]
    split: str = "train"
    task: str = ""
    described: str = ""
