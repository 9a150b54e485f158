"""A pose is a position (3,) in metres and a rotation matrix (3, 3), both in the base frame; deltas join onto it."""

from __future__ import annotations

import math

import mujoco
import numpy as np
from jaxtyping import Float

from vla.actions.rotations import axis_angle_to_matrix, matrix_to_axis_angle

Position = Float[np.ndarray, " 3"]
Matrix = Float[np.ndarray, "3 3"]


def integrate_delta(
    position: Position, rotation: Matrix, translation: Position, turn: Matrix
) -> tuple[Position, Matrix]:
    """The pose after moving by `translation` and turning by `turn`, both in the base frame.

    `position` and `rotation` are the last *commanded* pose: integrating onto the measured one lets a loaded arm sag.
    """
    # The way through an axis and an angle keeps it a rotation over thousands of steps.
    return position + translation, axis_angle_to_matrix(matrix_to_axis_angle(turn @ rotation))


def delta_between(
    position: Position, rotation: Matrix, next_position: Position, next_rotation: Matrix
) -> tuple[Position, Matrix]:
    """The translation and turn that `integrate_delta` needs to get from the first pose to the next."""
    return next_position - position, next_rotation @ rotation.T


def rotation_vector_rate(vector: Position, angular_velocity: Position) -> Position:
    """How fast the rotation vector changes (rad/s) of a frame that turns at `angular_velocity` (rad/s, base frame).

    The inverse left Jacobian of SO(3) (Sola et al. 2018, "A micro Lie theory", eq. 146).
    """
    angle = math.hypot(*vector)
    along = _cross(vector, angular_velocity)
    factor = 1 / 12
    if angle > 1e-4:
        factor = 1 / angle**2 - (1 + math.cos(angle)) / (2 * angle * math.sin(angle))
    return angular_velocity - along / 2 + factor * _cross(vector, along)


def angular_velocity(vector: Position, rate: Position) -> Position:
    """The angular velocity (rad/s, base frame) of a frame whose rotation vector changes at `rate`; the inverse."""
    angle = math.hypot(*vector)
    along = _cross(vector, rate)
    if angle < 1e-4:
        first, second = 0.5, 1 / 6
    else:
        first, second = (1 - math.cos(angle)) / angle**2, (angle - math.sin(angle)) / angle**3
    return rate + first * along + second * _cross(vector, along)


def _cross(a: Position, b: Position) -> Position:
    """What `np.cross` takes thirty times as long for."""
    product = np.empty(3)
    mujoco.mju_cross(product, a, b)
    return product
