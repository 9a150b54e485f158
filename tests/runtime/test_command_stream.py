"""Chunks at the policy's rate become one smooth stream, joined where the time says, and silent when they run out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from vla import assets
from vla.actions.rotations import convert
from vla.runtime.command_stream import CommandStream, TimedChunk, Waypoint
from vla.runtime.commands import ActionLayout
from vla.runtime.safety_gate import SafetyGate
from vla.spec import ActionSpec, Field, RobotSpec

TABLETOP = RobotSpec.load(assets.find("robot", "tabletop"))
DT, PERIOD = 1 / 200, 1 / 20
HOME = np.array([0.0, -0.35, 0.0, -2.45, 0.0, 2.1, np.pi / 4])
JOINTS = replace(TABLETOP, action=ActionSpec("joint_position", (Field("joints", 7, "rad"),)))
SPEEDS = replace(TABLETOP, action=ActionSpec("joint_velocity", (Field("joints", 7, "rad/s"),)))
POSES = replace(
    TABLETOP,
    action=ActionSpec(
        "ee_pose", (Field("position", 3, "m", "base"), Field("rotation", 4, "1", "base", "quaternion_xyzw"))
    ),
)


def start(joints=(0.0,) * 7, gripper=()) -> Waypoint:
    return Waypoint(0.0, np.array(joints), np.zeros(len(joints)), np.eye(3), np.zeros(3), np.array(gripper))


def play(stream: CommandStream, begin: float, samples: int, here: Waypoint) -> list:
    first = round(begin / DT)
    return [stream.sample(k * DT, lambda: here) for k in range(first, first + samples)]


def line(rows: int, first: float = 1.0, slope: float = 1.0) -> np.ndarray:
    return np.tile((first + slope * np.arange(rows))[:, None], (1, 7)) / 100


def test_an_action_is_reached_at_the_end_of_its_control_period():
    stream = CommandStream(ActionLayout(JOINTS), PERIOD)
    stream.submit(TimedChunk(0.0, line(4)))
    said = play(stream, 0, 41, start())
    np.testing.assert_allclose([said[k][0] for k in (0, 10, 20, 30, 40)], [0, 0.01, 0.02, 0.03, 0.04], atol=1e-12)


def test_between_actions_position_and_velocity_are_continuous():
    stream = CommandStream(ActionLayout(JOINTS), PERIOD)
    rng = np.random.default_rng(0)
    stream.submit(TimedChunk(0.0, np.cumsum(rng.uniform(-0.02, 0.02, (8, 7)), 0)))
    path = np.array(play(stream, 0, 80, start()))
    steps, bends = np.abs(np.diff(path, axis=0)), np.abs(np.diff(path, 2, axis=0))
    assert bends.max() < 0.5 * steps.max(), "no sample changes the velocity by as much as the velocity itself"


@pytest.mark.parametrize("moment", [0.1, 0.12, 0.145])
def test_a_new_chunk_takes_over_without_a_jump_in_position_or_velocity(moment):
    stream = CommandStream(ActionLayout(JOINTS), PERIOD)
    stream.submit(TimedChunk(0.0, line(8)))
    before = play(stream, 0, round(moment / DT), start())
    # It wants to go the other way, and is meant for a time that has begun already.
    stream.submit(TimedChunk(0.1, line(8, first=3.0, slope=-1.0)))
    path = np.array(before + play(stream, moment, 40, start()))[:, 0]
    speed = np.diff(path) / DT
    # Turning round from 0.2 to -0.2 rad/s in one sample would be a jump.
    assert np.abs(speed).max() < 0.3 and np.abs(np.diff(speed)).max() < 0.4 / 3
    assert path[-1] < path[round(moment / DT)], "and it did go the other way"


def test_rows_whose_time_has_passed_are_skipped_not_replayed():
    stream = CommandStream(ActionLayout(JOINTS), PERIOD)
    stream.submit(TimedChunk(0.0, line(8)))
    said = play(stream, 0.2, 41, start(np.full(7, 0.04)))
    np.testing.assert_allclose(said[-1], np.full(7, 0.08), atol=1e-12)


def test_a_chunk_waits_for_its_time():
    stream = CommandStream(ActionLayout(JOINTS), PERIOD)
    stream.submit(TimedChunk(0.1, line(4)))
    said = play(stream, 0, 25, start())
    assert said[:20] == [None] * 20 and said[20] is not None


def test_a_chunk_older_than_the_newest_is_refused():
    stream = CommandStream(ActionLayout(JOINTS), PERIOD)
    assert stream.submit(TimedChunk(0.1, line(4)))
    assert not stream.submit(TimedChunk(0.05, line(4))) and stream.outdated == 1


def test_when_the_chunks_run_out_there_is_nothing_to_say_and_it_is_counted_once():
    stream = CommandStream(ActionLayout(JOINTS), PERIOD)
    stream.submit(TimedChunk(0.0, line(2)))
    said = play(stream, 0, 40, start())
    assert all(one is not None for one in said[:21]) and said[21:] == [None] * 19
    assert stream.starvations == 1


def test_after_a_pause_it_begins_from_where_the_robot_is_told_to_be():
    stream = CommandStream(ActionLayout(JOINTS), PERIOD)
    stream.submit(TimedChunk(0.0, line(2)))
    play(stream, 0, 60, start())
    stream.submit(TimedChunk(0.3, line(4, first=5)))
    here = Waypoint(0.3, np.full(7, 0.03), np.full(7, 0.1), np.eye(3), np.zeros(3), np.zeros(0))
    said = np.array(play(stream, 0.3, 10, here))[:, 0]
    first, second = np.diff(said[:3]) / DT
    assert said[0] == 0.03 and (3 * first - second) / 2 == pytest.approx(0.1, rel=0.1)


def test_velocities_change_without_a_jump():
    stream = CommandStream(ActionLayout(SPEEDS), PERIOD)
    stream.submit(TimedChunk(0.0, np.full((4, 7), 0.3)))
    said = np.array(play(stream, 0, 40, start()))[:, 0]
    assert said[0] == 0 and said[10] == pytest.approx(0.3) and np.abs(np.diff(said)).max() < 0.06


def test_rotations_take_the_short_way_at_an_even_pace_whatever_the_sign_of_the_quaternion():
    stream = CommandStream(ActionLayout(POSES), PERIOD)
    quaternions = convert(0.2 * np.arange(1, 21)[:, None] * [0, 0, 1], "axis_angle", "quaternion_xyzw")
    quaternions[::2] *= -1
    stream.submit(TimedChunk(0.0, np.concatenate([np.zeros((20, 3)), quaternions], axis=1)))
    here = replace(start(np.zeros(3)), spin=np.array([0, 0, 4.0]))
    said = np.array(play(stream, 0, 200, here))[:, 3:]
    np.testing.assert_allclose(np.linalg.norm(said, axis=1), 1, atol=1e-9)
    angles = np.unwrap(convert(said, "quaternion_xyzw", "rpy")[:, 2])
    np.testing.assert_allclose(np.diff(angles) / DT, 4.0, atol=1e-6)


def test_deltas_add_up_to_what_the_chunk_says_also_across_a_hand_over():
    stream = CommandStream(ActionLayout(TABLETOP), PERIOD)
    row = np.array([0.01, 0, -0.005, 0, 0, 0.02, 1.0])
    here = start(np.zeros(3), gripper=[1.0])
    stream.submit(TimedChunk(0.0, np.tile(row, (8, 1))))
    said = play(stream, 0, 23, here)
    stream.submit(TimedChunk(0.1, np.tile(row, (6, 1))))
    said += play(stream, 23 * DT, 58, here)
    assert all(one is not None for one in said)
    total = sum(one[:6] for one in said)
    np.testing.assert_allclose(total, 8 * row[:6], atol=1e-9)


def test_behind_it_the_gate_brings_a_starved_robot_to_rest_within_its_limits():
    gate = SafetyGate(JOINTS)
    gate.reset(HOME)
    stream = CommandStream(gate.layout, PERIOD)
    stream.submit(TimedChunk(0.0, HOME + line(4, first=2, slope=2)))
    path, held = [HOME] * 3, []
    for k in range(120):
        passed = gate.step(stream.sample(k * DT, partial(Waypoint.of_gate, gate, k * DT)), k * DT, k * DT, path[-1])
        path.append(passed.joints)
        held.append(passed.held)
    speed = np.diff(path, axis=0) / DT
    assert np.abs(speed[42]).max() > 0.1 and not held[40] and held[41]
    assert (np.abs(np.diff(speed, axis=0) / DT) <= np.array(JOINTS.limits.acceleration) * (1 + 1e-6)).all()
    assert (speed[-1] == 0).all()
