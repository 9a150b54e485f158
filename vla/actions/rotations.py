"""Rotations in the representations a `RobotSpec` names; every function takes and gives arrays with leading axes.

Radians throughout. Quaternions are `xyzw`; `wxyz` exists only for MuJoCo's sake. `rpy` is roll, pitch, yaw about the
fixed x, y, z axes, R = Rz(yaw) Ry(pitch) Rx(roll) (REP-103). `rot6d` is the first two columns of the matrix, one
after the other (Zhou et al. 2019, "On the Continuity of Rotation Representations in Neural Networks").

A single axis-angle or quaternion goes through MuJoCo's C, as control loops turn them over hundreds of times a second:
what NumPy does around so little work takes ten times as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import mujoco
import numpy as np
from jaxtyping import Float

Array = Float[np.ndarray, "..."]

_TINY = 1e-12


def convert(values: Array, source: str, target: str) -> Array:
    """From one `vla.spec.Rotation` to another, e.g. convert(x, "quaternion_xyzw", "rot6d")."""
    return FROM_MATRIX[target](TO_MATRIX[source](np.asarray(values, np.float64)))


def rot6d_to_matrix(values: Float[np.ndarray, "... 6"]) -> Float[np.ndarray, "... 3 3"]:
    """Gram-Schmidt: the first column's direction is kept, the second is made perpendicular to it."""
    first, second = values[..., :3], values[..., 3:]
    x = first / np.linalg.norm(first, axis=-1, keepdims=True).clip(_TINY)
    second = second - (x * second).sum(-1, keepdims=True) * x
    y = second / np.linalg.norm(second, axis=-1, keepdims=True).clip(_TINY)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def matrix_to_rot6d(matrix: Float[np.ndarray, "... 3 3"]) -> Float[np.ndarray, "... 6"]:
    return np.concatenate([matrix[..., 0], matrix[..., 1]], axis=-1)


def axis_angle_to_quaternion(values: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 4"]:
    angle = np.linalg.norm(values, axis=-1, keepdims=True)
    # sin(a/2)/a, which is 1/2 at zero: np.sinc keeps it smooth there.
    return np.concatenate([values * np.sinc(angle / (2 * np.pi)) / 2, np.cos(angle / 2)], axis=-1)


def quaternion_to_axis_angle(values: Float[np.ndarray, "... 4"]) -> Float[np.ndarray, "... 3"]:
    """The shorter way round: an angle within [0, pi]."""
    q = _unit(values)
    q = np.where(q[..., 3:] < 0, -q, q)
    sine = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[..., 3:])
    return q[..., :3] * np.where(sine < _TINY, 2, angle / sine.clip(_TINY))


def quaternion_to_matrix(values: Float[np.ndarray, "... 4"]) -> Float[np.ndarray, "... 3 3"]:
    if values.ndim == 1:
        return _one_matrix(values[[3, 0, 1, 2]])
    x, y, z, w = np.moveaxis(_unit(values), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_to_quaternion(matrix: Float[np.ndarray, "... 3 3"]) -> Float[np.ndarray, "... 4"]:
    """With w >= 0. Of the four ways to write it, the one without cancellation (Shepperd 1978)."""
    m = np.asarray(matrix)
    if m.ndim == 2:
        return _one_quaternion(m)[[1, 2, 3, 0]]
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    # Rows of 4 q q^T; the longest is the best conditioned.
    rows = np.stack(
        [
            np.stack([1 + xx - yy - zz, xy, xz, wx], axis=-1),
            np.stack([xy, 1 - xx + yy - zz, yz, wy], axis=-1),
            np.stack([xz, yz, 1 - xx - yy + zz, wz], axis=-1),
            np.stack([wx, wy, wz, 1 + xx + yy + zz], axis=-1),
        ],
        axis=-2,
    )
    best = np.diagonal(rows, axis1=-2, axis2=-1).argmax(-1)
    q = _unit(np.take_along_axis(rows, best[..., None, None], axis=-2)[..., 0, :])
    return np.where(q[..., 3:] < 0, -q, q)


def axis_angle_to_matrix(values: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3 3"]:
    if values.ndim == 1:
        quaternion, angle = np.empty(4), math.hypot(*values)
        mujoco.mju_axisAngle2Quat(quaternion, np.divide(values, angle or 1.0, dtype=np.float64), angle)
        return _one_matrix(quaternion)
    return quaternion_to_matrix(axis_angle_to_quaternion(values))


def matrix_to_axis_angle(matrix: Float[np.ndarray, "... 3 3"]) -> Float[np.ndarray, "... 3"]:
    if matrix.ndim == 2:
        vector = np.empty(3)
        mujoco.mju_quat2Vel(vector, _one_quaternion(matrix), 1.0)
        return vector
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def rpy_to_matrix(values: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3 3"]:
    turns = (axis_angle_to_matrix(values[..., i : i + 1] * np.eye(3)[i]) for i in range(3))
    roll, pitch, yaw = turns
    return yaw @ pitch @ roll


def matrix_to_rpy(matrix: Float[np.ndarray, "... 3 3"]) -> Float[np.ndarray, "... 3"]:
    """Pitch within [-pi/2, pi/2]; at its ends, where roll and yaw turn about one axis, roll is 0."""
    pitch = np.arcsin((-matrix[..., 2, 0]).clip(-1, 1))
    locked = np.hypot(matrix[..., 0, 0], matrix[..., 1, 0]) < 1e-7
    roll = np.where(locked, 0, np.arctan2(matrix[..., 2, 1], matrix[..., 2, 2]))
    free_yaw = np.arctan2(matrix[..., 1, 0], matrix[..., 0, 0])
    yaw = np.where(locked, np.arctan2(-matrix[..., 0, 1], matrix[..., 1, 1]), free_yaw)
    return np.stack([roll, pitch, yaw], axis=-1)


def wxyz_to_xyzw(values: Float[np.ndarray, "... 4"]) -> Float[np.ndarray, "... 4"]:
    """From MuJoCo."""
    return np.roll(values, -1, axis=-1)


def continuous(values: Float[np.ndarray, "T D"], representation: str) -> Float[np.ndarray, "T D"]:
    """The same rotations over time, each written as near as can be to the one before.

    A quaternion is its own negative, and angles repeat every turn: what is written may leap where nothing moved.
    """
    if representation == "rpy":
        return np.unwrap(values, axis=0)
    near = values.copy()
    if representation == "quaternion_xyzw":
        turned = np.sum(values[1:] * values[:-1], axis=1) < 0
        near[1:] *= np.where(np.cumsum(turned) % 2, -1.0, 1.0)[:, None]
    elif representation == "axis_angle":
        for before, here in pairwise(near):
            axis = here / max(angle := float(np.linalg.norm(here)), _TINY)
            here += 2 * np.pi * round((float(before @ axis) - angle) / (2 * np.pi)) * axis
    return near


def _one_matrix(quaternion: Float[np.ndarray, " 4"]) -> Float[np.ndarray, "3 3"]:
    """Of a quaternion wxyz, however long."""
    unit, matrix = np.array(quaternion, np.float64), np.empty(9)
    mujoco.mju_normalize4(unit)
    mujoco.mju_quat2Mat(matrix, unit)
    return matrix.reshape(3, 3)


def _one_quaternion(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 4"]:
    """wxyz, with w >= 0."""
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.asarray(matrix, np.float64).reshape(9))
    return -quaternion if quaternion[0] < 0 else quaternion


def _unit(q: Float[np.ndarray, "... 4"]) -> Float[np.ndarray, "... 4"]:
    return q / np.linalg.norm(q, axis=-1, keepdims=True).clip(_TINY)


TO_MATRIX: dict[str, Callable[[Array], Array]] = {
    "rot6d": rot6d_to_matrix,
    "axis_angle": axis_angle_to_matrix,
    "quaternion_xyzw": quaternion_to_matrix,
    "rpy": rpy_to_matrix,
    "matrix": lambda values: values.reshape(*values.shape[:-1], 3, 3),
}
FROM_MATRIX: dict[str, Callable[[Array], Array]] = {
    "rot6d": matrix_to_rot6d,
    "axis_angle": matrix_to_axis_angle,
    "quaternion_xyzw": matrix_to_quaternion,
    "rpy": matrix_to_rpy,
    "matrix": lambda matrix: matrix.reshape(*matrix.shape[:-2], 9),
}
