"""What may happen to an object in mid-episode without the robot's doing: it is moved by hand, or slips out."""

from dataclasses import dataclass

import mujoco
import numpy as np

from gym_tabletop import arm

HAND_SPEED, SLIPPERY = 0.3, 0.02
"""Of the hand that moves an object (m/s); friction of the finger pads while something slips."""


@dataclass(frozen=True)
class Event:
    """From control step `start` on, for `steps` steps, towards `angle` (rad) if it is a push."""

    start: int
    steps: int
    angle: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Event":
        return cls(int(rng.integers(8, 45)), int(rng.integers(3, 7)), float(rng.uniform(0, 2 * np.pi)))

    def lasts(self, step: int) -> bool:
        return self.start < step <= self.start + self.steps

    def begin(self, model: mujoco.MjModel, gripped: bool) -> None:
        """If the object is gripped it will slip."""
        if gripped:
            for finger in arm.FINGERS:
                model.geom(f"{finger}_pad").friction[0] = SLIPPERY

    def push(self, data: mujoco.MjData, body: int, dof: int) -> None:
        """Before a physics step: the force of a hand that moves the object along, whatever its friction."""
        wanted = HAND_SPEED * np.array([np.cos(self.angle), np.sin(self.angle)])
        data.xfrc_applied[body, :2] = 12.0 * (wanted - data.qvel[dof : dof + 2])

    def end(self, model: mujoco.MjModel) -> None:
        for finger in arm.FINGERS:
            model.geom(f"{finger}_pad").friction[0] = arm.PAD_FRICTION
