"""The arm of a spec: the same as the simulated one, and its inverse undoes its forward."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla import assets
from vla.errors import UserError
from vla.runtime.kinematics import ArmKinematics
from vla.spec import Kinematics, RobotSpec

SPEC = RobotSpec.load(assets.find("robot", "tabletop"))
HOME = np.array([0.0, -0.35, 0.0, -2.45, 0.0, 2.1, np.pi / 4])
LOW, HIGH = np.array(SPEC.limits.position).T


@pytest.fixture(scope="module")
def arm() -> ArmKinematics:
    return ArmKinematics(SPEC.kinematics)


def test_its_tool_is_where_the_simulated_arm_has_it(arm):
    from gym_tabletop.kinematics import ArmKinematics as Simulated

    for joints in (HOME, HOME + 0.3):
        for own, simulated in zip(arm.forward(joints), Simulated().forward(joints), strict=True):
            np.testing.assert_allclose(own, simulated, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_inverse_brings_the_tool_to_a_pose_nearby(arm, seed):
    goal = arm.forward(HOME + np.random.default_rng(seed).uniform(-0.2, 0.2, 7))
    joints, error = arm.inverse(HOME, *goal, HOME, LOW, HIGH, iterations=12)
    assert error < 1e-6
    for found, wanted in zip(arm.forward(joints), goal, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_inverse_of_a_pose_out_of_reach_stays_within_the_limits_and_says_what_is_left(arm):
    place, turn = arm.forward(HOME)
    joints, error = arm.inverse(
        HOME, place + np.array([2.0, 0, 0]), turn, posture=HOME, low=LOW, high=HIGH, iterations=12
    )
    assert error > 0.5 and (joints >= LOW).all() and (joints <= HIGH).all()


@pytest.mark.parametrize("far", [(0.4269, 0.4, 0.7), (0.8, 0.4, 0.7), (0.8, -0.4, 0.0), (0.8, 0.0, 0.7)])
def test_for_a_pose_out_of_reach_the_joints_settle_where_they_come_nearest(arm, far):
    """Sample by sample, as the gate asks: no step leads further away, and in the end none leads anywhere."""
    joints, turn, before = HOME, arm.forward(HOME)[1], np.inf
    for sample in range(600):
        found, _ = arm.inverse(joints, np.array(far), turn, HOME, LOW, HIGH)
        left = np.linalg.norm(arm.forward(found)[0] - far) + np.linalg.norm(arm.forward(found)[1] - turn)
        if sample > 300:
            assert np.abs(found - joints).max() < 0.01 and left < before + 0.01
        joints, before = found, left


def test_the_jacobian_is_the_change_of_the_pose(arm):
    step = 1e-6 * np.arange(1, 8)
    moved = arm.forward(HOME + step)[0] - arm.forward(HOME)[0]
    np.testing.assert_allclose(arm.jacobian(HOME)[:3] @ step, moved, atol=1e-9)


def test_a_joint_the_model_lacks_is_named():
    with pytest.raises(UserError, match="the model has no joint 'elbow'"):
        ArmKinematics(replace(SPEC.kinematics, joints=("elbow",)))


def test_a_base_that_the_arm_itself_moves_is_refused():
    with pytest.raises(UserError, match="base_frame link4 is moved by joint joint1"):
        ArmKinematics(replace(SPEC.kinematics, base_frame="link4"))


URDF = """<robot name="arm">{extension}
<link name="base_link"/>
<joint name="turn" type="revolute"><parent link="base_link"/><child link="link1"/><origin xyz="0 0 0.1"/>
  <axis xyz="0 0 1"/><limit lower="-2" upper="2" effort="1" velocity="1"/></joint>
<link name="link1"><inertial><mass value="1"/>
  <inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial></link>
<joint name="flange" type="fixed"><parent link="link1"/><child link="tool0"/><origin xyz="0.3 0 0"/></joint>
<link name="tool0"/></robot>"""


def test_an_urdf_keeps_its_frames_if_it_is_told_to_and_what_there_is_is_named_if_not(tmp_path):
    file = tmp_path / "arm.urdf"
    arm = Kinematics(str(file), "base_link", "tool0", ("turn",))
    file.write_text(URDF.format(extension=""))
    with pytest.raises(UserError, match="the model has no base_frame 'base_link'; it has world, link1"):
        ArmKinematics(arm)
    file.write_text(URDF.format(extension='<mujoco><compiler fusestatic="false" discardvisual="true"/></mujoco>'))
    np.testing.assert_allclose(ArmKinematics(arm).forward(np.array([np.pi / 2]))[0], [0, 0.3, 0.1], atol=1e-9)
