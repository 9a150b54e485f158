"""What scripted experts share: moving the tool by small deltas, and the small disorder of a human hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gym_tabletop.kinematics import rotation_error
from gym_tabletop.scene_truth import Scene, Thing
from gym_tabletop.tasks import Request
from gym_tabletop.tasks.base import distance

if TYPE_CHECKING:
    from gym_tabletop.env import TabletopEnv

Array = NDArray[np.float64]

OPEN, CLOSED = 1.0, 0.0
TABLE_CLEARANCE = 0.018
"""Lowest tool height (m): the finger tips end 8 mm below the tool point."""
MOUTH = 0.012
"""How close above a place the hand may be to go straight down (m)."""


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


@dataclass(frozen=True)
class Aim:
    """Where the tool should go (3,) in m, its yaw in rad, the gripper; in words, and how far the skill is (0 to 1)."""

    place: Array
    yaw: float
    gripper: float
    subtask: str
    progress: float


Move = Callable[["Expert", Scene, Request], Aim]
"""What a skill's expert does in the state as it is."""


class Expert:
    """Drives a `TabletopEnv` in `ee_delta` mode from its true state, closed-loop: knocked off course, it recovers.

    Each step's action follows from the state alone (no timer, no plan to remember), so that a policy without memory
    can learn it. `subtask` and `progress` say in words and number how far the task is.
    """

    def __init__(self, env: "TabletopEnv", rng: np.random.Generator, moves: Mapping[str, Move]) -> None:
        self.env, self.rng, self.moves, self.style = env, rng, moves, Style.sample(rng)
        self.subtask, self.progress = "", 0.0
        self._last_move: Array = np.zeros(3)
        self._shove: Array = np.zeros(6)
        self._shove_steps = 0
        self._fumble, self._fumble_steps = (OPEN, 0.0), 0
        self._disturbed = False

    def act(self) -> NDArray[np.float32]:
        """The action (7,) for the state the environment is in."""
        scene, stages, number = self.env.scene(), self.env.assignment.stages, self.env.stage
        now = stages[number]
        if scene.held not in (None, now.request.target):
            aim = Aim(self.tool, self.yaw, OPEN, f"let go of the {scene.held}", 0.0)
        else:
            aim = self.moves[now.skill.name](self, scene, now.request)
        self.subtask, self.progress = aim.subtask, (number + aim.progress) / len(stages)
        goal = np.array([*aim.place[:2], max(aim.place[2], TABLE_CLEARANCE)])
        wanted = _limit(self.style.gain * (goal - self.tool), self.style.speed)
        move = self._last_move + _limit(wanted - self._last_move, 0.009)  # a hand has inertia
        self._last_move = move
        turn = np.clip(0.3 * self._rotation_to(aim.yaw), -0.08, 0.08)
        return np.concatenate([move, turn, [aim.gripper]]).astype(np.float32)

    @property
    def disturbed(self) -> bool:
        """Whether the last `perturb` made something else of the action, not only a tremor."""
        return self._disturbed

    def moved(self, action: NDArray[np.float32]) -> None:
        """Somebody else moved the hand: its next move goes on from that one."""
        self._last_move = np.asarray(action[:3], float)

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
        self._disturbed = self._shove_steps > 0 or self._fumble_steps > 0
        moved[:3] += self.rng.normal(0, self.style.tremor, 3)
        if self._shove_steps > 0:
            self._shove_steps -= 1
            moved[:6] += self._shove
        if self._fumble_steps > 0:
            self._fumble_steps -= 1
            moved[6], rise = self._fumble
            moved[2] += rise
        return moved

    # --- for the moves -------------------------------------------------------------------------------------------

    @property
    def tool(self) -> Array:
        """Measured tool position (3,), m."""
        return self.env.data.site_xpos[self.env.model.site("tool").id].copy()

    @property
    def yaw(self) -> float:
        """Measured yaw of the gripper, rad."""
        return self._heading(self.env.data.site_xmat[self.env.model.site("tool").id])

    def descend(self, place: Array, hover: float, slope: float, lead: Array | None = None) -> Array:
        """Where to go next to come down on `place` (3,) from at most `hover` m: down a funnel as steep as `slope`.

        Below the funnel's wall the hand mostly rises, so that nothing is swept along, but it never stops closing in:
        the field has no edge and no standstill on which a learner's average of two moves would get stuck.
        lead: how far ahead of a place that moves to aim (3,).
        """
        tool = self.tool
        away = distance(tool, place)
        height = min(hover, place[2] + slope * max(0.0, away - MOUTH))
        share = np.clip(1 - (height - tool[2]) / 0.04, 0.15, 1.0)
        ahead = place if lead is None else place + lead
        return np.append(tool[:2] + share * (ahead[:2] - tool[:2]), height)

    def rise_clear(self, scene: Scene, subtask: str) -> Aim | None:
        """Up and away with open fingers, while something stands between them: closing would take it along."""
        tool = self.tool
        for thing in scene.objects:
            if distance(tool, thing.position) < 0.05 and tool[2] - thing.position[2] < 0.07:
                return Aim(tool + np.array([0, 0, 0.1]), self.yaw, OPEN, subtask, 0.0)
        return None

    def lead_of(self, thing: Thing) -> Array:
        """How far ahead of a moving object to aim, so that this hand's steps keep up with it (3,)."""
        slot = self._slot(thing)
        first = int(self.env.model.joint(f"object{slot}").dofadr[0])
        step = self.env.data.qvel[first : first + 3] / self.env.metadata["render_fps"]
        return _limit(step / self.style.gain, 0.03)

    def yaw_for(self, thing: Thing) -> float:
        """Where the smallest turn of the gripper lines it up with a cube's sides (rad); 0 for round things."""
        if thing.shape != "cube":
            return 0.0
        yaw, now = self._heading(self.env.data.xmat[self.env.model.body(f"object{self._slot(thing)}").id]), self.yaw
        return now + (yaw - now + np.pi / 4) % (np.pi / 2) - np.pi / 4

    def _slot(self, thing: Thing) -> int:
        slot = self.env.layout.slot(thing.name)
        assert slot is not None, f"{thing.name} is no object"
        return slot

    @staticmethod
    def _heading(matrix: Array) -> float:
        return float(np.arctan2(matrix[3], matrix[0]))

    def _rotation_to(self, yaw: float) -> Array:
        down = np.array([[np.cos(yaw), np.sin(yaw), 0], [np.sin(yaw), -np.cos(yaw), 0], [0, 0, -1.0]])
        facing = self.env.data.site_xmat[self.env.model.site("tool").id].reshape(3, 3)
        return rotation_error(down, facing)


def _limit(vector: Array, length: float) -> Array:
    size = float(np.linalg.norm(vector))
    return vector * (length / size) if size > length else vector
