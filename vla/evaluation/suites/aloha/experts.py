"""A scripted expert that hands the cube over, closed-loop on the true state: for demonstrations, as an upper bound."""

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from gym_tabletop.kinematics import axis_angle_matrix, rotation_error
from vla.errors import UserError
from vla.evaluation.suites.aloha.env import AlohaEnv

Array = NDArray[np.float64]

RATE_HZ = 50
SPEED, TURN = 0.35, 3.0
"""Of a hand, m/s and rad/s."""
CLOSE_BY = 0.04
"""Where it matters that an arm hangs a little below what it is asked for, m."""
TIP = 0.13
"""From the gripper's link to between its finger tips, m."""
HOVER, NEAR, CLEAR = 0.08, 0.012, 0.015
"""Heights and distances, m; CLEAR: how far above the cube's middle it is taken, for fingers that rub on the table."""
PITCH = np.deg2rad(60)
"""How far the right hand looks down, so that the left one can take hold of the other half of the cube."""
MEETING = np.array([0.0, 0.5, 0.25])
"""Where the cube changes hands, m."""
APPROACH = np.array([-0.12, 0.0, 0.0])
"""From where the left hand comes, as seen from the cube."""
LIFTED, TAKEN = 0.1, 0.012
"""Height of a cube that is off the table, and how far from its middle the left hand takes it, m."""
SHOVE_EVERY = 60
"""Mean steps between two shoves of a hand (DART, Laskey 2017)."""


def _limited(vector: Array, length: float) -> Array:
    return vector * min(1.0, length / max(float(np.linalg.norm(vector)), 1e-9))


def _facing(forward: Array, across: Array) -> Array:
    """Rotation (3, 3) of a gripper that looks along `forward`, its fingers opening along `across`."""
    return np.array([forward, across, np.cross(forward, across)]).T


FORTH, ACROSS, UP = np.eye(3)
DOWN = _facing(-np.cos(PITCH) * FORTH - np.sin(PITCH) * UP, -ACROSS)
LEVEL = _facing(FORTH, UP)
"""How the right and the left hand are held."""


@dataclass(frozen=True)
class Aim:
    """Where a hand should go: its tip (3,) in m, its rotation (3, 3), and the gripper (1 = open)."""

    place: Array
    rotation: Array
    gripper: float


class Hand:
    """One of the arms: where its finger tips are, what they touch, and the joints that take them somewhere."""

    def __init__(self, env: AlohaEnv, side: str) -> None:
        self.model, self.data = env.physics()
        self._scratch = mujoco.MjData(self.model)
        names = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
        joints = [self.model.joint(f"vx300s_{side}/{name}") for name in names]
        self.joints = np.array([joint.qposadr[0] for joint in joints])
        self._dofs = np.array([joint.dofadr[0] for joint in joints])
        self._low, self._high = np.array([joint.range for joint in joints]).T
        moved = self.model.actuator_trnid[:, 0].tolist()
        self._motors = np.array([moved.index(joint.id) for joint in joints])
        self._link = self.model.body(f"vx300s_{side}/gripper_link").id
        fingers = ("10_left_gripper_finger", "10_right_gripper_finger")
        self._fingers = [self.model.geom(f"vx300s_{side}/{name}").id for name in fingers]
        self._cube = self.model.geom("red_box").id

    @property
    def tip(self) -> Array:
        """Between the finger tips (3,), m."""
        return self._pose(self.data)[0]

    @property
    def touching(self) -> int:
        """How many of its fingers touch the cube."""
        pairs = self.data.contact.geom
        return sum(bool(((pairs == finger).any(1) & (pairs == self._cube).any(1)).any()) for finger in self._fingers)

    def towards(self, aim: Aim) -> Array:
        """The action (7,) that goes on from the last one, at most so fast; what hangs is raised by how far it hangs."""
        asked = self.data.ctrl[self._motors]
        self._scratch.qpos[self.joints] = asked
        mujoco.mj_kinematics(self.model, self._scratch)
        tip, rotation = self._pose(self._scratch)
        way = aim.place - tip
        if np.linalg.norm(aim.place - self.tip) < CLOSE_BY:
            way = way + 0.5 * _limited(tip - self.tip, CLOSE_BY)
        turn = _limited(rotation_error(aim.rotation, rotation), TURN / RATE_HZ)
        place = tip + _limited(way, SPEED / RATE_HZ)
        return np.append(self.inverse(asked, place, axis_angle_matrix(turn) @ rotation), aim.gripper)

    def inverse(self, start: Array, place: Array, rotation: Array, iterations: int = 3) -> Array:
        """Joints (6,) in rad, near `start`, that bring the tip to `place` (damped least squares)."""
        joints = start.copy()
        jacobian = np.zeros((6, self.model.nv))
        for _ in range(iterations):
            self._scratch.qpos[self.joints] = joints
            mujoco.mj_kinematics(self.model, self._scratch)
            mujoco.mj_comPos(self.model, self._scratch)
            here, facing = self._pose(self._scratch)
            mujoco.mj_jac(self.model, self._scratch, jacobian[:3], jacobian[3:], here, self._link)
            mine = jacobian[:, self._dofs]
            error = np.concatenate([place - here, rotation_error(rotation, facing)])
            step = mine.T @ np.linalg.solve(mine @ mine.T + 1e-4 * np.eye(6), error)
            joints = np.clip(joints + step, self._low, self._high)
        return joints

    def _pose(self, data: mujoco.MjData) -> tuple[Array, Array]:
        rotation = data.xmat[self._link].reshape(3, 3)
        return data.xpos[self._link] + TIP * rotation[:, 0], rotation.copy()


class CubeExpert:
    """The right hand takes the cube up and the left one takes it over. Acts from the state alone: it recovers.

    subtask and progress (0 to 1) say how far things are; disturbed: whether the last `perturb` shoved a hand.
    """

    def __init__(self, env: AlohaEnv, rng: np.random.Generator) -> None:
        self.env, self.rng = env, rng
        self.left, self.right = Hand(env, "left"), Hand(env, "right")
        self.subtask, self.progress, self.disturbed = "", 0.0, False
        self._shove, self._shove_steps = np.zeros(14), 0

    def act(self) -> NDArray[np.float32]:
        """The action (14,) for the state the environment is in."""
        left, right = self._aims()
        return np.concatenate([self.left.towards(left), self.right.towards(right)]).astype(np.float32)

    def moved(self, action: NDArray[np.float32]) -> None:
        """Somebody else moved the hands: nothing to remember."""

    def perturb(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the hands really do: now and then one is shoved for some steps."""
        if self._shove_steps == 0 and self.rng.random() < 1 / SHOVE_EVERY:
            self._shove = np.zeros(14)
            first = 7 * int(self.rng.integers(2))
            self._shove[first : first + 6] = self.rng.normal(0, 0.015, 6)
            self._shove_steps = int(self.rng.integers(3, 11))
        self.disturbed = self._shove_steps > 0
        if not self.disturbed:
            return action
        self._shove_steps -= 1
        return (action + self._shove).astype(np.float32)

    def _aims(self) -> tuple[Aim, Aim]:
        """Of the left hand and of the right one."""
        cube = self.right.data.body("box").xpos.copy()
        waiting = Aim(MEETING + APPROACH, LEVEL, 1.0)
        if self.left.touching == 2 and cube[2] > LIFTED:
            self.subtask, self.progress = "let go of the cube", 0.9
            away = MEETING - APPROACH if self.right.touching == 0 else self.right.tip
            return Aim(MEETING, LEVEL, 0.0), Aim(away, DOWN, 1.0)
        if self.right.touching == 2:
            if np.linalg.norm(self.right.tip - MEETING) > 2 * NEAR:
                self.subtask, self.progress = "lift the cube", 0.4
                return waiting, Aim(MEETING, DOWN, 0.0)
            self.subtask, self.progress = "hand the cube over", 0.6
            taking = cube - TAKEN * FORTH
            off = self.left.tip - taking
            place = taking if np.linalg.norm(off[1:]) < NEAR else taking + APPROACH
            return Aim(place, LEVEL, float(np.linalg.norm(off) > NEAR)), Aim(MEETING, DOWN, 0.0)
        self.subtask, self.progress = "reach the cube", 0.1
        taking = cube + CLEAR * UP
        off = self.right.tip - taking
        place = taking if np.linalg.norm(off[:2]) < NEAR else taking + HOVER * UP
        return waiting, Aim(place, DOWN, float(np.linalg.norm(off) > NEAR))


def make_expert(env: AlohaEnv, rng: np.random.Generator) -> CubeExpert:
    """An expert for the task at hand; make a new one after each reset. UserError for the one that has none."""
    if env.task != "transfer_cube":
        raise UserError(f"ALOHA: task {env.task} has no expert; --task transfer_cube has one")
    return CubeExpert(env, rng)
