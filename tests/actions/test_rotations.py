"""Rotations: every representation against the matrix, and the matrix against scipy where it is installed."""

import itertools

import numpy as np
import pytest

from vla.actions import rotations as r
from vla.spec import ROTATION_SIZES


@pytest.fixture
def matrices() -> np.ndarray:
    """Random rotations, and the awkward ones: none, half turns, tiny turns."""
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(0, 1.5, (200, 3)), np.zeros((1, 3)), np.pi * np.eye(3), 1e-9 * np.eye(3)])
    return r.axis_angle_to_matrix(vectors)


def test_matrices_are_rotations(matrices) -> None:
    np.testing.assert_allclose(
        matrices @ np.swapaxes(matrices, -1, -2), np.broadcast_to(np.eye(3), matrices.shape), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-9)


@pytest.mark.parametrize(("source", "target"), itertools.permutations(ROTATION_SIZES, 2))
def test_every_representation_converts_to_every_other(matrices, source, target) -> None:
    values = r.FROM_MATRIX[source](matrices)
    converted = r.convert(values, source, target)
    assert converted.shape == (len(matrices), ROTATION_SIZES[target])
    np.testing.assert_allclose(r.TO_MATRIX[target](converted), matrices, atol=1e-7)


@pytest.mark.parametrize("name", ROTATION_SIZES)
def test_one_rotation_is_what_many_are(matrices, name) -> None:
    values = r.FROM_MATRIX[name](matrices)
    np.testing.assert_allclose([r.TO_MATRIX[name](one) for one in values], r.TO_MATRIX[name](values), atol=1e-12)
    back = [r.TO_MATRIX[name](r.FROM_MATRIX[name](one)) for one in matrices]  # a half turn may be written in two ways
    np.testing.assert_allclose(back, matrices, atol=1e-7)


def test_a_quarter_turn_about_z_in_every_representation() -> None:
    matrix, half = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.sqrt(0.5)
    expected = {
        "axis_angle": [0, 0, np.pi / 2],
        "quaternion_xyzw": [0, 0, half, half],
        "rpy": [0, 0, np.pi / 2],
        "rot6d": [0, 1, 0, -1, 0, 0],  # the first two columns, one after the other
        "matrix": [0, -1, 0, 1, 0, 0, 0, 0, 1],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(r.FROM_MATRIX[name](matrix), values, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(r.TO_MATRIX[name](np.array(values, float)), matrix, atol=1e-9, err_msg=name)


def test_quaternion_orders_differ_by_where_w_is() -> None:
    np.testing.assert_array_equal(r.wxyz_to_xyzw(np.array([4, 1, 2, 3])), [1, 2, 3, 4])


def test_wxyz_is_mujocos_order() -> None:
    import mujoco

    quaternion = np.array([0.8, 0.1, -0.4, 0.3])
    quaternion /= np.linalg.norm(quaternion)
    theirs = np.zeros(9)
    mujoco.mju_quat2Mat(theirs, quaternion)
    np.testing.assert_allclose(r.quaternion_to_matrix(r.wxyz_to_xyzw(quaternion)), theirs.reshape(3, 3), atol=1e-12)


def test_a_long_way_round_becomes_the_short_one() -> None:
    np.testing.assert_allclose(
        r.convert(np.array([0, 0, 1.5 * np.pi]), "axis_angle", "axis_angle"), [0, 0, -np.pi / 2], atol=1e-9
    )


def test_rot6d_of_a_network_is_made_a_rotation() -> None:
    rough = np.array([2.0, 0.1, 0, 0.3, 0.5, 0])
    matrix = r.rot6d_to_matrix(rough)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(matrix[:, 0], rough[:3] / np.linalg.norm(rough[:3]))


def test_rpy_straight_up_is_still_the_same_rotation() -> None:
    matrix = r.rpy_to_matrix(np.array([0.3, np.pi / 2, -0.7]))
    rpy = r.matrix_to_rpy(matrix)
    assert rpy[0] == 0
    np.testing.assert_allclose(r.rpy_to_matrix(rpy), matrix, atol=1e-7)


def test_agrees_with_scipy(matrices) -> None:
    scipy = pytest.importorskip("scipy.spatial.transform").Rotation.from_matrix(matrices[:200])
    np.testing.assert_allclose(r.matrix_to_axis_angle(matrices[:200]), scipy.as_rotvec(), atol=1e-7)
    theirs = scipy.as_quat(canonical=True)
    np.testing.assert_allclose(r.matrix_to_quaternion(matrices[:200]), theirs, atol=1e-7)
    np.testing.assert_allclose(r.matrix_to_rpy(matrices[:200]), scipy.as_euler("xyz"), atol=1e-7)


@pytest.mark.parametrize("representation", ["rpy", "axis_angle", "quaternion_xyzw"])
def test_a_steady_turn_can_be_written_without_leaps(representation) -> None:
    """Three turns about an axis that is nearly upright."""
    turns = r.axis_angle_to_matrix(np.linspace(0.1, 19, 400)[:, None] * np.array([0.1, 0, np.sqrt(0.99)]))
    written = r.FROM_MATRIX[representation](turns)
    near = r.continuous(written, representation)
    np.testing.assert_allclose(r.TO_MATRIX[representation](near), turns, atol=1e-7)
    largest = [np.abs(np.diff(values, axis=0)).max() for values in (written, near)]
    assert largest[0] > 1 and largest[1] < 0.1
