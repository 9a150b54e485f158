"""The operations of dataset cards, each by what it does to numbers one can check in one's head."""

import numpy as np
import pytest

from vla.actions import rotations
from vla.data.operations import OPERATIONS, parse_operation
from vla.errors import UserError


def run(operation, values):
    return np.asarray(parse_operation(operation, "card", "do[0]")(np.array(values, np.float32)))


def column(operation, values):
    return run(operation, [[value] for value in values])[:, 0].tolist()


@pytest.mark.parametrize(
    ("operation", "values", "expected"),
    [
        ({"select": [2, 0]}, [[1, 2, 3], [4, 5, 6]], [[3, 1], [6, 4]]),
        ({"scale": 0.5}, [[2, 4]], [[1, 2]]),
        ({"offset": -1}, [[2, 4]], [[1, 3]]),
        ({"clip": {"low": 0, "high": 1}}, [[-1, 0.5, 3]], [[0, 0.5, 1]]),
        ("invert", [[0, 1, 0.25]], [[1, 0, 0.75]]),
        ("sum_halves", [[1, 2, 10, 20]], [[11, 22]]),
        ({"pad": 2}, [[1], [2]], [[1, 0, 0], [2, 0, 0]]),
        ({"pad": {"size": 1, "value": 1}}, [[5]], [[5, 1]]),
        ("relabel_from_reached_state", [[0, 0], [1, 2], [3, 2]], [[1, 2], [2, 0]]),
    ],
)
def test_arithmetic(operation, values, expected):
    assert run(operation, values).tolist() == expected


def test_a_gripper_on_its_way_counts_as_where_it_arrives():
    assert column("binarise", [1, 0.5, 0.2, 0, 0.4, 1]) == [1, 0, 0, 0, 1, 1]


def test_a_gripper_still_on_its_way_at_the_end_counts_as_the_nearer():
    assert column("binarise", [0, 0.3, 0.6]) == [0, 1, 1]
    assert column({"binarise": {"low": 0.2, "high": 0.4}}, [0.1, 0.5]) == [0, 1]


def test_commands_to_close_and_open_become_a_state():
    assert column("rel_to_abs_gripper", [0, 1, 0, 0, -1, 0]) == [1, 0, 0, 0, 1, 1]
    assert column("rel_to_abs_gripper", [0, 0, -1, 0, 1]) == [0, 0, 1, 1, 0]
    assert column("rel_to_abs_gripper", [0, 0.05, -0.05]) == [1, 1, 1]


QUARTER = np.pi / 2


def test_rotations_change_their_representation():
    half = np.sqrt(0.5)
    np.testing.assert_allclose(run("euler_to_axis_angle", [[0, 0, QUARTER]]), [[0, 0, QUARTER]], atol=1e-6)
    np.testing.assert_allclose(run("quat_to_axis_angle", [[half, 0, 0, half]]), [[QUARTER, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(run("quat_to_rot6d", [[0, 0, half, half]]), [[0, 1, 0, -1, 0, 0]], atol=1e-6)
    turned = run({"rotate": {"source": "axis_angle", "target": "rpy"}}, [[0, QUARTER / 2, 0]])
    np.testing.assert_allclose(turned, [[0, QUARTER / 2, 0]], atol=1e-6)


def test_turns_that_were_made_lead_from_each_pose_to_the_next_even_past_a_half_turn():
    poses = np.array([[0.1, 0.2, 3.1], [0.1, 0.2, -3.1], [0.3, -0.2, -3.0]])
    turns = run({"relabel_from_reached_state": "rpy"}, poses)
    assert abs(turns).max() < 0.5
    before, after = (rotations.rpy_to_matrix(poses[at]) for at in (slice(0, 2), slice(1, 3)))
    np.testing.assert_allclose(rotations.rpy_to_matrix(turns) @ before, after, atol=1e-5)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ("juggle", "do.0. is no operation: 'juggle'; there are: select, scale"),
        ({"scale": 1, "offset": 2}, "is no operation"),
        ({"scale": "much"}, r"do.0..scale.factor must be a number"),
        ({"clip": {"low": 0, "hi": 1}}, "unknown key do.0..clip.hi; did you mean high"),
        ({"clip": {"low": 0}}, r"do.0..clip.high is missing"),
        ({"rotate": {"source": "wxyz", "target": "rpy"}}, "must be one of"),
        ({"invert": 3}, "must be a mapping"),
    ],
)
def test_mistakes_are_named(operation, message):
    with pytest.raises(UserError, match=message):
        parse_operation(operation, "card", "do[0]")


@pytest.mark.parametrize("operation", [{"select": [3]}, {"select": [-1]}, "quat_to_rot6d", "sum_halves"])
def test_values_that_do_not_fit_are_refused(operation):
    with pytest.raises(ValueError):
        run(operation, [[1, 2, 3]])


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_leave_what_they_are_given_as_it_was(name):
    parameters = {"select": [0], "scale": 2, "offset": 1, "clip": {"low": 0, "high": 1}, "pad": 1}
    parameters |= {"rotate": {"source": "quaternion_xyzw", "target": "rpy"}}
    size = 3 if name.startswith("euler") else 4
    values = np.full((5, size), 0.3, np.float32)
    parse_operation({name: parameters.get(name, {})}, "card", "do")(values)
    assert (values == np.float32(0.3)).all()
