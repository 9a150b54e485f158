"""A seven-joint arm with the Franka Emika Panda's published kinematics and limits, drawn in primitives.

Kinematics, joint, velocity and torque limits: Franka Control Interface documentation, "Robot and interface
specifications" (modified Denavit-Hartenberg parameters). Geometry, masses and gains are our own.
"""

from dataclasses import dataclass

import mujoco
import numpy as np

JOINTS = tuple(f"joint{i}" for i in range(1, 8))
FINGERS = ("finger_left", "finger_right")

POSITION_LOW = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
POSITION_HIGH = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
VELOCITY_LIMIT = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])
TORQUE_LIMIT = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])
FINGER_TRAVEL = 0.04
"""How far one finger opens, in metres: the gripper spans twice that."""
PAD_FRICTION = 1.6
FINGER_SPEED = 0.15
"""How fast one finger moves, m/s."""

HOME = np.array([0.0, -0.35, 0.0, -2.45, 0.0, 2.1, np.pi / 4])
"""Tool about 0.25 m above the middle of the table, pointing down (rad)."""

# Modified DH: (offset a, twist alpha, offset d) of each joint frame in the one before it.
_DH = (
    (0.0, 0.0, 0.333),
    (0.0, -np.pi / 2, 0.0),
    (0.0, np.pi / 2, 0.316),
    (0.0825, np.pi / 2, 0.0),
    (-0.0825, -np.pi / 2, 0.384),
    (0.0, np.pi / 2, 0.0),
    (0.088, np.pi / 2, 0.0),
)
_FLANGE, _TOOL = 0.107, 0.1034
_STIFFNESS = np.array([4000.0, 4000.0, 3000.0, 3000.0, 1500.0, 1500.0, 1000.0])
_ARMATURE = np.array([0.4, 0.4, 0.3, 0.3, 0.12, 0.12, 0.08])


@dataclass(frozen=True)
class _Capsule:
    """One capsule of a link: end points and radius in metres, in the link's joint frame; mass in kg."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float
    mass: float


_LINKS: tuple[tuple[_Capsule, ...], ...] = (
    (_Capsule((0, 0, -0.19), (0, 0, -0.02), 0.062, 3.0),),
    (_Capsule((0, 0, -0.05), (0, 0, 0.05), 0.062, 1.5), _Capsule((0, 0, 0), (0, -0.14, 0), 0.058, 1.5)),
    (_Capsule((0, 0, -0.14), (0, 0, -0.03), 0.056, 1.5), _Capsule((0, 0, 0), (0.0825, 0, 0), 0.052, 1.0)),
    (_Capsule((0, 0, -0.05), (0, 0, 0.05), 0.055, 1.0), _Capsule((0, 0, 0), (-0.0825, 0.09, 0), 0.052, 1.5)),
    (_Capsule((0, 0, -0.27), (0, 0.03, -0.05), 0.05, 2.0), _Capsule((0, 0.03, -0.05), (0, 0, 0), 0.048, 0.5)),
    (_Capsule((0, 0, -0.04), (0, 0, 0.04), 0.048, 0.8), _Capsule((0, 0, 0), (0.088, 0, 0), 0.042, 0.6)),
    (_Capsule((0, 0, -0.02), (0, 0, 0.08), 0.042, 0.7),),
)


def add_arm(spec: mujoco.MjSpec) -> None:
    """Add the arm, its gripper, wrist camera, tool site and actuators to `spec`, standing at the origin."""
    white, dark = [0.92, 0.93, 0.94, 1.0], [0.22, 0.24, 0.27, 1.0]
    base = spec.worldbody.add_body(name="base")
    _capsule(base, _Capsule((0, 0, 0.04), (0, 0, 0.1), 0.085, 3.0), white, collides=False)
    parent = base
    for i, (a, alpha, d) in enumerate(_DH):
        parent = parent.add_body(
            name=f"link{i + 1}",
            pos=[a, -np.sin(alpha) * d, np.cos(alpha) * d],
            quat=[np.cos(alpha / 2), np.sin(alpha / 2), 0, 0],
            gravcomp=1,
        )
        parent.add_joint(
            name=JOINTS[i],
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=[0, 0, 1],
            range=[POSITION_LOW[i], POSITION_HIGH[i]],
            limited=True,
            armature=_ARMATURE[i],
            damping=1.0,
        )
        for capsule in _LINKS[i]:
            _capsule(parent, capsule, white if i % 2 == 0 else dark, collides=i >= 4)
    _add_hand(parent)
    for i, joint in enumerate(JOINTS):
        _position_servo(spec, joint, _STIFFNESS[i], 2 * np.sqrt(_STIFFNESS[i] * 1.2), TORQUE_LIMIT[i])
    for finger in FINGERS:
        _position_servo(spec, finger, 1500.0, 50.0, 35.0)


def _add_hand(flange: mujoco.MjsBody) -> None:
    dark, pad = [0.22, 0.24, 0.27, 1.0], [0.45, 0.47, 0.5, 1.0]
    hand = flange.add_body(
        name="hand", pos=[0, 0, _FLANGE], quat=[np.cos(np.pi / 8), 0, 0, -np.sin(np.pi / 8)], gravcomp=1
    )
    box = mujoco.mjtGeom.mjGEOM_BOX
    hand.add_geom(type=box, size=[0.022, 0.09, 0.026], pos=[0, 0, 0.03], mass=0.6, rgba=dark, contype=2, conaffinity=1)
    hand.add_site(name="tool", pos=[0, 0, _TOOL])
    forward = np.array([-0.42, 0.0, 1.0])
    back = -forward / np.linalg.norm(forward)
    right = np.array([0.0, 1.0, 0.0])
    up = np.cross(back, right)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.stack([right, up, back], axis=1).ravel())
    hand.add_camera(name="wrist", pos=[0.075, 0, 0.0], quat=quat, fovy=72)
    for name, side in zip(FINGERS, (1, -1), strict=True):
        finger = hand.add_body(name=name, pos=[0, 0, 0.0584], gravcomp=1)
        finger.add_joint(
            name=name,
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[0, side, 0],
            range=[0, FINGER_TRAVEL],
            limited=True,
            armature=0.2,
            damping=2.0,
        )
        finger.add_geom(
            name=f"{name}_pad",
            type=box,
            size=[0.011, 0.006, 0.027],
            pos=[0, side * 0.006, 0.027],
            mass=0.05,
            rgba=pad,
            contype=2,
            conaffinity=1,
            condim=6,
            friction=[PAD_FRICTION, 0.02, 0.002],
            priority=1,
        )


def _capsule(body: mujoco.MjsBody, capsule: _Capsule, rgba: list[float], collides: bool) -> None:
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=[*capsule.start, *capsule.end],
        size=[capsule.radius, 0, 0],
        mass=capsule.mass,
        rgba=rgba,
        contype=2 if collides else 0,
        conaffinity=1 if collides else 0,
    )


def _position_servo(spec: mujoco.MjSpec, joint: str, stiffness: float, damping: float, force: float) -> None:
    actuator = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.gainprm[0] = stiffness
    actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
    actuator.biasprm[1], actuator.biasprm[2] = -stiffness, -damping
    actuator.forcelimited = True
    actuator.forcerange = [-force, force]
