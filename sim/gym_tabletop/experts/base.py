"""What scripted experts share: moving the tool by small deltas, and the small disorder of a human hand."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gym_tabletop.kinematics import rotation_error
from gym_tabletop.scene_truth import Scene, Thing
from gym_tabletop.tasks.base import find

if TYPE_CHECKING:
    from gym_tabletop.env import TabletopEnv

Array = NDArray[np.float64]

OPEN, CLOSED = 1.0, 0.0
TABLE_CLEARANCE = 0.018
"""Lowest tool height (m): the finger tips end 8 mm below the tool point."""


@dataclass(frozen=True)
class Style:
    """How one episode's operator moves. Heights in m above the table, speeds in m per step."""

    speed: float
    gain: float
    hover: float
    carry: float
    tremor: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Style":
        return cls(
            speed=rng.uniform(0.016, 0.024),
            gain=rng.uniform(0.30, 0.42),
            hover=rng.uniform(0.085, 0.115),
            carry=rng.uniform(0.11, 0.14),
            tremor=rng.uniform(0.0, 0.0012),
        )


class Expert(ABC):
    """Drives a `TabletopEnv` in `ee_delta` mode from its true state, closed-loop: knocked off course, it recovers.

    Each step's action follows from the state alone (no timer, no plan to remember), so that a policy without memory
    can learn it. `subtask` and `progress` (0 to 1) say in words and number how far the task is.
    """

    def __init__(self, env: "TabletopEnv", rng: np.random.Generator) -> None:
        self.env, self.rng, self.style = env, rng, Style.sample(rng)
        self.request = env.assignment.request
        self.subtask, self.progress = "", 0.0
        self._last_move: Array = np.zeros(3)
        self._shove: Array = np.zeros(6)
        self._shove_steps = 0
        self._fumble, self._fumble_steps = (OPEN, 0.0), 0

    def act(self) -> NDArray[np.float32]:
        """The action (7,) for the state the environment is in."""
        scene = self.env.scene()
        goal, yaw, gripper = self.decide(scene)
        tool = self.env.data.site_xpos[self.env.model.site("tool").id]
        goal = np.array([goal[0], goal[1], max(goal[2], TABLE_CLEARANCE)])
        wanted = _limit(self.style.gain * (goal - tool), self.style.speed)
        move = self._last_move + _limit(wanted - self._last_move, 0.009)  # a hand has inertia
        self._last_move = move
        turn = np.clip(0.3 * self._rotation_to(yaw), -0.08, 0.08)
        return np.concatenate([move, turn, [gripper]]).astype(np.float32)

    def perturb(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the hand really does: `action` with tremor, and now and then a shove or a fumble to recover from.

        A fumble opens the gripper where it should close, or closes it where it should open, often while the hand
        rises: the object is dropped, or missed and left behind. Recording `act` while executing `perturb` shows a
        learner the way back (DART, Laskey et al. 2017).
        """
        if self._shove_steps == 0 and self.rng.random() < 0.03:
            self._shove = np.append(self.rng.normal(0, 0.009, 3), self.rng.normal(0, [0.005, 0.005, 0.04]))
            self._shove_steps = int(self.rng.integers(2, 7))
        if self._fumble_steps == 0 and self.rng.random() < 0.01:
            self._fumble_steps = int(self.rng.integers(4, 16))
            self._fumble = 1.0 - float(action[6]), self.rng.uniform(0, 0.02) * self.rng.integers(2)
        moved = action.copy()
        moved[:3] += self.rng.normal(0, self.style.tremor, 3)
        if self._shove_steps > 0:
            self._shove_steps -= 1
            moved[:6] += self._shove
        if self._fumble_steps > 0:
            self._fumble_steps -= 1
            moved[6], rise = self._fumble
            moved[2] += rise
        return moved

    @abstractmethod
    def decide(self, scene: Scene) -> tuple[Array, float, float]:
        """Where the tool should go (3,) in m, its yaw in rad and the gripper, for the state as it is."""

    @property
    def tool(self) -> Array:
        """Measured tool position (3,), m."""
        return self.env.data.site_xpos[self.env.model.site("tool").id].copy()

    def target(self, scene: Scene) -> Thing:
        return find(scene, self.request.target)

    def yaw_for(self, thing: Thing) -> float:
        """The smallest turn of the gripper that lines it up with a cube's sides (rad); 0 for round things."""
        if thing.shape != "cube":
            return 0.0
        slot = next(i for i, pose in enumerate(self.env.layout.objects) if pose.pair == thing.name)
        axis = self.env.data.xmat[self.env.model.body(f"object{slot}").id].reshape(3, 3)[:, 0]
        yaw = float(np.arctan2(axis[1], axis[0]))
        return (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4

    def _rotation_to(self, yaw: float) -> Array:
        down = np.array([[np.cos(yaw), np.sin(yaw), 0], [np.sin(yaw), -np.cos(yaw), 0], [0, 0, -1.0]])
        facing = self.env.data.site_xmat[self.env.model.site("tool").id].reshape(3, 3)
        return rotation_error(down, facing)


def _limit(vector: Array, length: float) -> Array:
    size = float(np.linalg.norm(vector))
    return vector * (length / size) if size > length else vector
