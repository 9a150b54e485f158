"""From a hand to an action: when it may move the robot, and what it then asks for, in every action mode."""

from dataclasses import replace

import numpy as np
import pytest

from vla import assets
from vla.runtime.kinematics import ArmKinematics
from vla.runtime.safety_gate import SafetyGate
from vla.spec import ActionSpec, Field, RobotSpec
from vla.teleop.devices import Clutch, Reading
from vla.teleop.mapping import Mapper, Scaling

TABLETOP = RobotSpec.load(assets.find("robot", "tabletop"))
HOME = np.array([0.0, -0.35, 0.0, -2.45, 0.0, 2.1, np.pi / 4])
GRIPPER = Field("gripper", 1, "1")
MODES = {
    "ee_delta": TABLETOP.action,
    "ee_pose": replace(TABLETOP.action, mode="ee_pose"),
    "joint_position": ActionSpec("joint_position", (Field("joints", 7, "rad"), GRIPPER), TABLETOP.action.gripper),
    "joint_velocity": ActionSpec("joint_velocity", (Field("joints", 7, "rad/s"), GRIPPER), TABLETOP.action.gripper),
}


def hand(stamp: float, clutch: bool = True) -> Reading:
    return Reading(np.zeros(6), 1.0, clutch, stamp)


def test_a_clutch_that_was_never_let_go_does_not_engage():
    clutch = Clutch(0.2)
    assert not clutch.update(hand(0.0), 0.0)
    assert not clutch.update(hand(0.1, clutch=False), 0.1)
    assert clutch.update(hand(0.2), 0.2)


def test_silence_opens_the_clutch_and_it_must_be_let_go_before_it_engages_again():
    clutch = Clutch(0.2)
    clutch.update(hand(0.0, clutch=False), 0.0)
    newest = hand(0.05)
    assert clutch.update(newest, 0.24)
    assert not clutch.update(newest, 0.26) and clutch.trips == 1 and "heartbeat" in clutch.why
    assert not clutch.update(hand(0.3), 0.3), "the connection is back, and the key still down"
    assert not clutch.update(hand(0.35, clutch=False), 0.35)
    assert clutch.update(hand(0.4), 0.4)


def test_a_device_that_is_gone_opens_the_clutch_at_once():
    clutch = Clutch(0.2)
    clutch.update(hand(0.0, clutch=False), 0.0)
    assert clutch.update(hand(0.05), 0.05)
    assert not clutch.update(None, 0.06) and clutch.trips == 1 and not clutch.present


def test_a_trip_is_counted_once_however_long_the_silence():
    clutch = Clutch(0.2)
    clutch.update(hand(0.0, clutch=False), 0.0)
    for now in np.arange(0.1, 5, 0.05):
        clutch.update(hand(0.0, clutch=False), float(now))
    assert clutch.trips == 1


def drive(mode: str, move: np.ndarray, steps: int, scaling: Scaling) -> tuple[SafetyGate, list[np.ndarray]]:
    """A perfect robot at 20 Hz, driven for so many steps and then let go of; the tool's places."""
    gate = SafetyGate(replace(TABLETOP, action=MODES[mode]), rate_hz=20)
    gate.reset(HOME, 1.0)
    mapper = Mapper(gate, 20, scaling)
    places = [gate.pose[0]]
    for step in range(steps + 20):
        wish = move if step < steps else np.zeros(6)
        action = mapper.action(wish, 1.0) if step < steps or not mapper.at_rest else None
        gate.step(action, step / 20, step / 20, gate.motion.position)
        places.append(gate.pose[0])
    return gate, places


@pytest.mark.parametrize("mode", MODES)
def test_a_full_push_moves_the_tool_at_the_speed_set_in_every_action_mode(mode):
    _, places = drive(mode, np.array([0, 1.0, 0, 0, 0, 0]), 30, Scaling(linear=0.1))
    speeds = np.diff([place[1] for place in places])[15:28] * 20
    assert speeds.mean() == pytest.approx(0.1, rel=0.1)
    sideways = np.abs(np.array(places)[:, [0, 2]] - places[0][[0, 2]]).max()
    assert sideways < 0.006, "it strays from its line"


@pytest.mark.parametrize("mode", MODES)
def test_letting_go_slows_down_and_then_rests(mode):
    gate, places = drive(mode, np.array([1.0, 0, 0, 0, 0, 0]), 20, Scaling(linear=0.1, settle_s=0.2))
    after = np.diff([place[0] for place in places])[20:] * 20
    assert after[0] > 0.02, "it does not stop dead"
    assert np.abs(after[12:]).max() < 1e-3 and gate.at_rest


def test_turning_keeps_the_place_of_the_tool():
    gate, places = drive("ee_delta", np.array([0, 0, 0, 0, 0, 1.0]), 20, Scaling(angular=0.5))
    assert np.abs(np.array(places) - places[0]).max() < 2e-3
    turned = ArmKinematics(TABLETOP.kinematics).forward(HOME)[1].T @ gate.pose[1]
    assert np.arccos((np.trace(turned) - 1) / 2) == pytest.approx(0.5, rel=0.2)


def test_the_gripper_follows_the_convention_of_the_spec():
    closing = replace(TABLETOP.action, gripper="0 = open, 1 = closed")
    for action, wanted in ((TABLETOP.action, 1.0), (closing, 0.0)):
        gate = SafetyGate(replace(TABLETOP, action=action), rate_hz=20)
        gate.reset(HOME, 0.5)
        assert Mapper(gate, 20).action(np.zeros(6), gripper=1.0)[-1] == wanted
