"""Poses and deltas: one way to join them, and back."""

import numpy as np

from vla.actions.poses import angular_velocity, delta_between, integrate_delta, rotation_vector_rate
from vla.actions.rotations import axis_angle_to_matrix, matrix_to_axis_angle

VECTOR = np.array([0.4, -0.9, 0.5])


def test_a_delta_leads_from_the_one_pose_to_the_other():
    start = np.array([0.1, 0.2, 0.3]), axis_angle_to_matrix(VECTOR)
    end = np.array([0.3, 0.1, 0.2]), axis_angle_to_matrix(VECTOR[::-1])
    for found, wanted in zip(integrate_delta(*start, *delta_between(*start, *end)), end, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_a_thousand_deltas_leave_a_rotation_a_rotation():
    place, turn = np.zeros(3), np.eye(3)
    for _ in range(1000):
        place, turn = integrate_delta(place, turn, np.full(3, 1e-3), axis_angle_to_matrix(0.02 * VECTOR))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(place, 1.0)


def test_the_rate_of_a_rotation_vector_is_that_of_the_turning_frame():
    spin, step = np.array([0.3, 0.2, -0.7]), 1e-6
    later = matrix_to_axis_angle(axis_angle_to_matrix(step * spin) @ axis_angle_to_matrix(VECTOR))
    np.testing.assert_allclose(rotation_vector_rate(VECTOR, spin), (later - VECTOR) / step, atol=1e-5)


def test_angular_velocity_undoes_it_also_at_zero():
    for vector in (VECTOR, np.zeros(3), 1e-6 * VECTOR):
        rate = rotation_vector_rate(vector, np.array([0.3, 0.2, -0.7]))
        np.testing.assert_allclose(angular_velocity(vector, rate), [0.3, 0.2, -0.7], atol=1e-9)
