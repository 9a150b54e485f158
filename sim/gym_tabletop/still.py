"""Still scenes: what the camera will meet in the middle of a task, posed without playing one, or played that far."""

from typing import TYPE_CHECKING

import mujoco
import numpy as np

from gym_tabletop import arm
from gym_tabletop.experts import make_expert
from gym_tabletop.kinematics import axis_angle_matrix

if TYPE_CHECKING:
    from gym_tabletop.env import TabletopEnv

PLAYED = 0.6
"""Share of the stills that an expert has played into: half-done things, in the places where experts leave them.

With 0.2, S2 pointed at the next target in only 71 to 83 % of the frames that follow the end of a first stage."""
WEIGHTS = {"stages": 6.0, "moving": 2.0}
"""How often a scene of a suite is made for a family, if not once: two things one after the other look different
half-done, and only one family plays on the turning table."""
LONGEST_STAGE = 60
"""Control steps after which most stages are over."""
FURTHER = 0.4
"""Up to what share of it a played scene goes on until its next still."""
HELD, NEAR = 0.25, 0.45
"""Shares of the posed stills in which the gripper holds an object, and in which it is close to one."""

_DOWN = np.diag([1.0, -1.0, -1.0])


def play_for_still(env: "TabletopEnv", rng: np.random.Generator, share: float = 1.0) -> None:
    """Let an expert do what the scene asks for, up to a random moment within `share` of what may take longest."""
    expert = make_expert(env, rng)
    for _ in range(rng.integers(int(share * LONGEST_STAGE) * len(env.assignment.stages))):
        if env.step(expert.perturb(expert.act()))[2]:
            break


def pose_for_still(env: "TabletopEnv", rng: np.random.Generator) -> None:
    """Move a freshly reset scene's arm, without physics: over the table, near an object, or holding one up."""
    kind = rng.random()
    slot = int(rng.integers(len(env.layout.objects)))
    address = int(env.model.joint(f"object{slot}").qposadr[0])
    thing = env.data.qpos[address : address + 3].copy()
    if kind < HELD:
        tool = np.append(rng.uniform([0.36, -0.30], [0.70, 0.30]), rng.uniform(0.03, 0.24))
    elif kind < HELD + NEAR:
        tool = thing + np.append(rng.normal(0, 0.04, 2), rng.uniform(0.0, 0.16))
    else:
        tool = np.append(rng.uniform([0.33, -0.32], [0.74, 0.32]), rng.uniform(0.03, 0.36))
    yaw = rng.uniform(-np.pi / 4, np.pi / 4) if kind < HELD + NEAR else rng.normal(0, 0.1)
    rotation = axis_angle_matrix(np.array([0, 0, yaw])) @ _DOWN
    joints = env.data.qpos[:7].copy()
    for _ in range(4):
        joints = env.kinematics.inverse(joints, tool, rotation)
    reached, facing = env.kinematics.forward(joints)
    opening = env.layout.objects[slot].half if kind < HELD else arm.FINGER_TRAVEL * rng.choice([0.0, 1.0, rng.random()])
    env.data.qpos[:7] = env.data.ctrl[:7] = joints
    env.data.qpos[7:9] = env.data.ctrl[7:9] = opening
    if kind < HELD:
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, (facing @ _DOWN.T).ravel())
        env.data.qpos[address : address + 3] = reached
        env.data.qpos[address + 3 : address + 7] = quat
