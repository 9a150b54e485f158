"""The safety gate: whatever goes in, what comes out keeps the limits of the spec, sample by sample."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vla import assets
from vla.actions.poses import delta_between
from vla.actions.rotations import FROM_MATRIX, matrix_to_axis_angle
from vla.errors import UserError
from vla.runtime.guarded import GuardedRobot
from vla.runtime.safety_gate import SafetyGate
from vla.spec import ActionSpec, Field, RobotSpec

HOME = np.array([0.0, -0.35, 0.0, -2.45, 0.0, 2.1, np.pi / 4])
DT = 1 / 200
GRIPPER = Field("gripper", 1, "1")
OPEN = "1 = open, 0 = closed"
TABLETOP = RobotSpec.load(assets.find("robot", "tabletop"))
ACTIONS = {
    "joint_position": ActionSpec("joint_position", (Field("joints", 7, "rad"), GRIPPER), OPEN),
    "joint_velocity": ActionSpec("joint_velocity", (Field("joints", 7, "rad/s"), GRIPPER), OPEN),
    "ee_delta": TABLETOP.action,
    "ee_pose": ActionSpec(
        "ee_pose",
        (
            Field("ee_position", 3, "m", "base"),
            Field("ee_rotation", 4, "1", "base", "quaternion_xyzw"),
            GRIPPER,
        ),
        OPEN,
    ),
}
# An arm whose jerk takes dozens of samples to build up, beside one whose jerk hardly limits a sample.
SOFT = replace(TABLETOP.limits, jerk=(50.0, 60.0, 70.0, 80.0, 100.0, 200.0, 500.0))


def make_gate(mode: str, limits=TABLETOP.limits, joints=HOME, **options) -> SafetyGate:
    gate = SafetyGate(replace(TABLETOP, action=ACTIONS[mode], limits=limits), **options)
    gate.reset(joints, gripper=1.0)
    return gate


def drive(gate: SafetyGate, actions, tracking=1.0) -> tuple[np.ndarray, list]:
    """Joint positions (T, 7) the robot gets, its rest before them included, and what the gate said of each sample."""
    measured = gate.motion.position
    path, passed = [measured] * 3, []
    for k, action in enumerate(actions):
        one = gate.step(action, k * DT, k * DT, measured)
        measured = measured + tracking * (one.joints - measured)
        path.append(one.joints)
        passed.append(one)
    return np.array(path), passed


def settle(gate: SafetyGate, steps=120) -> np.ndarray:
    return drive(gate, [None] * steps)[0][3:]


def assert_within_limits(path: np.ndarray, limits) -> None:
    """Rounding: 1e-9 rad in positions, a part in 1e6 of the derivatives."""
    low, high = np.array(limits.position).T
    assert (path >= low - 1e-9).all() and (path <= high + 1e-9).all()
    derivative = path
    for name in ("velocity", "acceleration", "jerk"):
        derivative = np.diff(derivative, axis=0) / DT
        most = np.abs(derivative) / np.array(getattr(limits, name))
        assert most.max() <= 1 + 1e-6, f"{name} {most.max():.6f} of its limit"


def assert_tool_within_limits(gate: SafetyGate, path: np.ndarray, limits) -> None:
    """A tolerance of 1 mm at the box, a thousandth of the speed."""
    places = gate._arm.positions(path)
    box = np.array([limits.workspace.x, limits.workspace.y, limits.workspace.z]).T
    assert (places >= box[0] - 1.5e-3).all() and (places <= box[1] + 1.5e-3).all()
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() / DT <= 1.001 * limits.tool_speed


def at(joints, gripper=1.0) -> np.ndarray:
    return np.append(joints, gripper)


def adversary(mode: str, kind: str, gate: SafetyGate, rng: np.random.Generator, samples: int):
    """Actions that try to break the limits; absolute modes begin where the robot is, or the gate would not start."""
    low, high = np.array(gate.spec.limits.position).T
    place, turn = gate.pose
    size = {"joint_position": 7, "joint_velocity": 7, "ee_delta": 6, "ee_pose": 3}[mode]
    direction = rng.choice([-1.0, 1.0], size)
    for k in range(samples):
        if k % 20 == 0:
            direction = rng.uniform(-1, 1, size) if kind == "steps" else direction
        if kind == "sign flips" and k % int(rng.integers(1, 40)) == 0:
            direction = -direction
        wave = np.sin(2e-4 * k * k) if kind == "chirp" else 1.0
        push = direction * wave * rng.uniform(0.9, 1.0)
        if kind == "noise":
            push = rng.uniform(-1, 1, size)
        if mode == "joint_position":
            action = at((low + high) / 2 + 0.6 * (high - low) * push)
            action = action if k else at(HOME)
        elif mode == "joint_velocity":
            action = at(5 * push)
        elif mode == "ee_delta":
            action = at(np.concatenate([0.05 * push[:3], 0.2 * push[3:]]))
        else:
            away = place + (0.5 * push if k else 0)
            action = at(np.concatenate([away, FROM_MATRIX["quaternion_xyzw"](turn)]))
        action[-1] = rng.uniform(-1, 2)
        yield action


@pytest.mark.parametrize("limits", [TABLETOP.limits, SOFT], ids=["stiff", "soft"])
@pytest.mark.parametrize("kind", ["steps", "chirp", "sign flips", "noise"])
@pytest.mark.parametrize("mode", ACTIONS)
def test_no_input_makes_the_robot_break_a_limit_and_it_comes_to_rest_within_them(mode, kind, limits):
    gate = make_gate(mode, limits)
    path, passed = drive(gate, adversary(mode, kind, gate, np.random.default_rng(7), 200))
    assert np.abs(np.diff(path, axis=0)).max() > 1e-4, "it did move"
    assert all(0 <= one.applied[-1] <= 1 for one in passed)
    path = np.concatenate([path, settle(gate)])
    assert_within_limits(path, limits)
    assert_tool_within_limits(gate, path, limits)
    assert gate.at_rest


def test_driven_into_its_joint_limits_at_full_speed_it_stops_before_them():
    spec = replace(TABLETOP, action=ACTIONS["joint_velocity"], limits=SOFT)
    gate = SafetyGate(spec)
    gate.reset(HOME, gripper=1.0)
    fast = 0.3 * np.array(SOFT.velocity)
    path, passed = drive(gate, (at(fast * (1, -1, 1, 1, 1, -1, 1)) for _ in range(400)))
    assert_within_limits(path, SOFT)
    assert any(rule.startswith(("position.", "workspace.")) for rule in passed[-1].rules)
    assert np.abs(path[-1] - path[-2]).max() < 1e-3


@pytest.mark.parametrize("joint", [1, 3, 5])
def test_a_target_beyond_a_joint_limit_is_reached_up_to_the_limit(joint):
    wide = replace(TABLETOP.limits, workspace=replace(TABLETOP.limits.workspace, x=(-2, 2), y=(-2, 2), z=(-2, 2)))
    high = np.array(wide.position)[:, 1]
    start = HOME.copy()
    start[joint] = high[joint] - 0.1
    gate = make_gate("joint_position", wide, start)
    beyond = start.copy()
    beyond[joint] += 5
    path, passed = drive(gate, [at(start), *[at(beyond)] * 120])
    assert_within_limits(path, wide)
    assert path[-1][joint] == pytest.approx(high[joint], abs=1e-6)
    assert f"position.joint{joint + 1}" in passed[-1].rules


@pytest.mark.parametrize("mode", ACTIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_latches_a_stop_named_by_its_field(mode, bad):
    gate = make_gate(mode)
    action = np.zeros(gate.layout.size)
    action[0] = bad
    _, passed = drive(gate, [action])
    assert passed[0].stopped == f"non_finite.{gate.layout.names[0]}" and passed[0].commanded is None
    assert np.isfinite(passed[0].applied).all()


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((8, 1)), np.zeros(0), "no", [[1], [1, 2]]])
def test_an_action_of_the_wrong_size_latches_a_stop(wrong):
    gate = make_gate("joint_position")
    assert gate.step(wrong, 0, 0, HOME).stopped == "wrong_size"
    assert gate.counts == {"wrong_size": 1}


@pytest.mark.parametrize(
    ("mode", "turn"),
    [("ee_pose", np.zeros(4)), ("ee_pose", np.full(4, 1e200)), ("ee_delta", np.full(3, 1e300))],
)
def test_numbers_that_are_no_rotation_latch_a_stop(mode, turn):
    gate = make_gate(mode)
    one = gate.step(at(np.concatenate([gate.pose[0], turn])), 0, 0, HOME)
    assert one.stopped == "no_rotation.ee_rotation" and np.isfinite(one.applied).all()


@pytest.mark.parametrize("mode", ACTIONS)
def test_the_largest_numbers_there_are_still_keep_the_limits(mode):
    gate = make_gate(mode)
    quaternion = FROM_MATRIX["quaternion_xyzw"](gate.pose[1])
    huge = {"ee_delta": [1e308, -1e308, 1e308, 3, 3, 3], "ee_pose": [1e308, -1e308, 1e308, *quaternion]}
    gate.settings = replace(gate.settings, start_joint=np.inf, start_tool=np.inf)
    path, passed = drive(gate, [at(np.array(huge.get(mode, [1e308, -1e308] * 3 + [1e308])))] * 40)
    assert passed[-1].stopped is None
    assert_within_limits(np.concatenate([path, settle(gate)]), TABLETOP.limits)
    assert_tool_within_limits(gate, path, TABLETOP.limits)


@pytest.mark.parametrize("measured", [np.full(7, np.nan), np.zeros(3), None])
def test_a_robot_that_cannot_say_where_it_is_is_stopped(measured):
    gate = make_gate("joint_position")
    drive(gate, [at(HOME + 0.01)] * 5)
    joints = [gate.step(at(HOME + 0.01), 0, 0, measured) for _ in range(60)]
    assert joints[-1].stopped == "measured" and np.isfinite(joints[-1].applied).all() and gate.at_rest


def test_after_a_latched_stop_nothing_moves_until_an_explicit_reset():
    gate = make_gate("joint_velocity")
    push = at(np.full(7, 0.1))
    drive(gate, [push] * 10)
    gate.stop("a person said so")
    drive(gate, [push] * 30)
    path, passed = drive(gate, [push] * 5)
    assert (np.diff(path, axis=0) == 0).all() and passed[-1].stopped == "a person said so" and passed[-1].held
    gate.reset(path[-1], gripper=1.0)
    path, passed = drive(gate, [push] * 5)
    assert (path[-1] > path[0]).all() and passed[-1].stopped is None


def test_it_is_not_reset_while_it_brakes():
    gate = make_gate("joint_velocity")
    drive(gate, [at(np.full(7, 0.2))] * 10)
    gate.stop("now")
    with pytest.raises(RuntimeError, match="still braking"):
        gate.reset(HOME, gripper=1.0)


def test_in_the_middle_of_a_motion_a_robot_that_was_out_of_touch_is_gone_on_with_from_where_it_is():
    gate = make_gate("joint_position")
    drive(gate, [at(HOME + 0.05)] * 5)
    assert not gate.at_rest
    gate.reset(HOME + 0.01, gripper=1.0, lost=True)
    assert gate.at_rest
    np.testing.assert_array_equal(gate.motion.position, HOME + 0.01)


def test_a_robot_that_leans_on_its_limit_is_taken_over_within_it():
    leaning = HOME.copy()
    leaning[3] = -0.0698 + 0.01
    gate = make_gate("joint_velocity", joints=leaning)
    gate.stop("a person said so")
    settle(gate, 5)
    gate.reset(leaning, gripper=1.0)
    path, passed = drive(gate, [at(np.full(7, -0.1))] * 20)
    assert passed[-1].stopped is None and path[:, 3].max() <= -0.0698 and path[-1, 3] < path[0, 3]


def test_an_old_action_is_not_executed():
    gate = make_gate("joint_velocity")
    late = gate.step(at(np.ones(7)), now=1.0, stamp=0.8, measured=HOME)
    assert late.rules == ("stale",) and late.held and (late.applied[:7] == 0).all() and late.stopped is None
    unknown = gate.step(at(np.ones(7)), now=1.0, stamp=np.nan, measured=HOME)
    assert unknown.rules == ("stale",)


def test_a_first_pose_far_from_the_measured_one_latches_a_stop():
    gate = make_gate("joint_position")
    far = HOME + np.eye(7)[2] * 0.2
    assert gate.step(at(far), 0, 0, HOME).stopped == "start_jump.joint3"
    gate = make_gate("ee_pose")
    place, turn = gate.pose
    away = at(np.concatenate([place + np.array([0.1, 0, 0]), FROM_MATRIX["quaternion_xyzw"](turn)]))
    assert gate.step(away, 0, 0, HOME).stopped == "start_jump.tool"


@pytest.mark.parametrize("limits", [TABLETOP.limits, SOFT], ids=["stiff", "soft"])
def test_a_stream_within_the_limits_passes_unchanged(limits):
    gate = make_gate("joint_position", limits)
    most = min(1.0, *np.array(limits.jerk) / 60)
    wave = [HOME + 0.05 * most * np.arange(1, 8) / 7 * (1 - np.cos(3 * k * DT)) ** 2 for k in range(160)]
    path, passed = drive(gate, (at(joints) for joints in wave))
    np.testing.assert_allclose(path[3:], wave, atol=1e-12)
    assert not gate.counts and not any(one.rules for one in passed)


@pytest.mark.parametrize("mode", ["ee_delta", "ee_pose"])
def test_a_tool_that_pushes_against_its_box_moves_on_along_it(mode):
    gate = make_gate(mode)
    (x, y, z), turn = gate.pose
    up = 0.003 * np.minimum(np.arange(1500), 300)
    aside = 0.0002 * np.maximum(np.arange(1500) - 500, 0)
    asked = np.stack([np.full(1500, x), y + aside, z + up], 1)
    if mode == "ee_delta":
        actions = [at([*step, 0, 0, 0]) for step in np.diff(asked, axis=0)]
    else:
        actions = [at([*place, *FROM_MATRIX["quaternion_xyzw"](turn)]) for place in asked]
    path, _ = drive(gate, actions)
    assert_within_limits(path, TABLETOP.limits)
    np.testing.assert_allclose(gate.pose[0], [x, y + 0.2, TABLETOP.limits.workspace.z[1]], atol=1e-3)


@pytest.mark.parametrize("step", [(0, 0.001, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0.004), (0.001, 0, 0.001, 0, 0.002, 0.004)])
def test_deltas_out_of_reach_do_not_add_up(step):
    wide = replace(TABLETOP.limits, workspace=replace(TABLETOP.limits.workspace, x=(-2, 2), y=(-2, 2), z=(-2, 2)))
    gate = make_gate("ee_delta", wide)
    step = np.array(step)
    out, _ = drive(gate, [at(step)] * 3000)
    assert gate.counts["unreachable"] > 100
    ahead = delta_between(*gate.pose, *gate.target)
    assert np.linalg.norm(ahead[0]) < 0.03 and np.linalg.norm(matrix_to_axis_angle(ahead[1])) < 0.1
    edge = gate.target
    home, _ = drive(gate, [at(-step)] * 40)
    assert_within_limits(np.concatenate([out, home[3:]]), wide)
    back = delta_between(*edge, *gate.target)
    np.testing.assert_allclose([*back[0], *matrix_to_axis_angle(back[1])], -40 * step, atol=5e-3)


def test_a_delta_within_the_limits_moves_the_tool_by_just_that():
    gate = make_gate("ee_delta")
    place = gate.pose[0]
    ramp = [2e-5 * min(k, 40, 80 - k) for k in range(81)]
    _, passed = drive(gate, (at(np.array([0, 0, -one, 0, 0, one])) for one in ramp))
    sent = sum(one.applied for one in passed)
    np.testing.assert_allclose(sent[:6], [0, 0, -sum(ramp), 0, 0, sum(ramp)], atol=1e-6)
    np.testing.assert_allclose(gate.pose[0] - place, [0, 0, -sum(ramp)], atol=1e-6)
    assert not gate.counts


def test_what_it_changes_is_counted_by_rule_and_joint():
    gate = make_gate("joint_velocity")
    gate.step(at(np.eye(7)[4] * 100, gripper=3.0), 0, 0, HOME)
    assert set(gate.counts) == {"velocity.joint5", "acceleration.joint5", "gripper"}


def test_commanded_and_applied_are_both_told():
    gate = make_gate("joint_position")
    wish = at(HOME + 0.05)
    one = gate.step(wish, 0, 0, HOME)
    np.testing.assert_array_equal(one.commanded, wish)
    assert not np.allclose(one.applied, wish) and (one.applied[:7] == one.joints).all()


def test_a_spec_without_limits_is_refused_unless_they_are_given():
    bare = replace(TABLETOP, limits=None)
    with pytest.raises(UserError, match="tabletop has no limits; add them to the spec"):
        SafetyGate(bare)
    SafetyGate(bare, TABLETOP.limits)


def test_a_spec_without_kinematics_is_refused():
    with pytest.raises(UserError, match="has no kinematics"):
        SafetyGate(replace(TABLETOP, kinematics=None))


@pytest.mark.parametrize(
    ("name", "words"), [("aloha", "looks at; two arms cannot be guarded yet"), ("metaworld", r"looks at$")]
)
def test_a_robot_that_does_not_say_where_its_joints_are_is_refused_and_so_are_two_arms(name, words):
    with pytest.raises(UserError, match=f"its state has no joint_position, which the safety gate {words}"):
        GuardedRobot(SimpleNamespace(spec=RobotSpec.load(assets.find("robot", name))))


def test_deltas_in_another_frame_are_refused():
    fields = (replace(TABLETOP.action.fields[0], frame="tool"), *TABLETOP.action.fields[1:])
    with pytest.raises(UserError, match="ee_translation is in frame tool; only base can be commanded"):
        SafetyGate(replace(TABLETOP, action=replace(TABLETOP.action, fields=fields)))


def test_a_robot_outside_its_limits_is_not_taken_over():
    outside = HOME.copy()
    outside[3] = -0.01
    with pytest.raises(UserError, match=r"joint4 is at -0\.0100, outside"):
        make_gate("joint_position", joints=outside)


# Hold.


def test_a_hold_brakes_and_then_keeps_the_commanded_pose_if_the_robot_tracks_it():
    gate = make_gate("joint_position")
    drive(gate, (at(HOME + 1e-4 * k) for k in range(100)), tracking=1.0)
    here = gate.motion.position
    sagging = [gate.step(None, 0, 0, here - 0.001 * k).joints for k in range(1, 80)]
    assert np.abs(sagging[-1] - here).max() < 5e-3, "it went on a little, to brake"
    assert (sagging[-1] == sagging[-40]).all(), "the load pulled it down, the target stayed"


def test_a_hold_keeps_the_measured_pose_once_if_the_robot_is_elsewhere():
    gate = make_gate("joint_position")
    drive(gate, [at(HOME)])
    elsewhere = HOME - 0.05
    first = [gate.step(None, 0, 0, elsewhere).joints for _ in range(120)]
    np.testing.assert_allclose(first[-1], elsewhere, atol=1e-6)
    later = [gate.step(None, 0, 0, elsewhere - 0.05).joints for _ in range(60)]
    np.testing.assert_array_equal(later[-1], first[-1])
    assert_within_limits(np.array([HOME] * 3 + first), TABLETOP.limits)


@pytest.mark.parametrize("mode", ["joint_velocity", "ee_delta"])
def test_a_hold_commands_zero_in_velocity_and_delta_modes(mode):
    gate = make_gate(mode)
    push = at(np.full(gate.layout.size - 1, 1e-3 if mode == "ee_delta" else 0.2), gripper=0.4)
    drive(gate, [push] * 20)
    _, passed = drive(gate, [None] * 100)
    assert np.abs(passed[0].applied[:-1]).max() > 0, "it brakes, it does not jerk to a halt"
    assert (passed[-1].applied[:-1] == 0).all() and passed[-1].applied[-1] == 0.4
