"""Robot specs: conventions are typed, mistakes are named, differences are told."""

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
import yaml

from vla import assets
from vla.errors import UserError
from vla.spec import RobotSpec, RosStream, dimension_names


@pytest.fixture
def spec() -> RobotSpec:
    return RobotSpec.load(assets.find("robot", "tabletop"))


def test_tabletop_arm_has_the_sizes_of_its_environment(spec: RobotSpec) -> None:
    assert (spec.state_size, spec.action_size, spec.rate_hz) == (17, 7, 20.0)
    assert spec.camera_names == ("front", "wrist")
    assert spec.camera("wrist").key == "observation.images.wrist"
    assert spec.state_slices["ee_rotation"] == slice(10, 16)
    assert spec.action_slices["gripper"] == slice(6, 7)


def test_dimensions_are_named_one_by_one(spec: RobotSpec) -> None:
    names = dimension_names(spec.action.fields)
    assert names[0] == "ee_translation.0" and names[-1] == "gripper" and len(names) == 7


def test_model_of_the_tabletop_arm_moves_like_the_simulated_one(spec: RobotSpec) -> None:
    from gym_tabletop.arm import add_arm

    assert spec.kinematics and spec.limits
    simulated = mujoco.MjSpec()
    simulated.compiler.degree = False
    add_arm(simulated)
    models = [mujoco.MjModel.from_xml_path(str(assets.find("robot", spec.kinematics.model))), simulated.compile()]
    low, high = np.array(spec.limits.position).T
    for fraction in (0.2, 0.5, 0.9):
        poses = []
        for model in models:
            data = mujoco.MjData(model)
            for name, value in zip(spec.kinematics.joints, low + fraction * (high - low), strict=True):
                data.joint(name).qpos = value
                assert model.joint(name).range == pytest.approx(
                    spec.limits.position[spec.kinematics.joints.index(name)], abs=1e-4
                )
            mujoco.mj_kinematics(model, data)
            poses.append(
                np.append(data.site(spec.kinematics.tool_frame).xpos, data.site(spec.kinematics.tool_frame).xmat)
            )
            assert spec.kinematics.base_frame in {model.body(i).name for i in range(model.nbody)}
        np.testing.assert_allclose(*poses, atol=1e-4)


def test_survives_saving_and_loading(spec: RobotSpec, tmp_path: Path) -> None:
    full = replace(spec, ros=(RosStream("front", "/front/image_raw", "sensor_msgs/msg/Image"),))
    full.save(tmp_path / "robot_spec.yaml")
    assert RobotSpec.load(tmp_path / "robot_spec.yaml") == full
    assert [path.name for path in tmp_path.iterdir()] == ["robot_spec.yaml"]


def test_a_robot_without_cameras_survives_too(spec: RobotSpec, tmp_path: Path) -> None:
    blind = replace(spec, cameras=())
    blind.save(tmp_path / "robot_spec.yaml")
    assert RobotSpec.load(tmp_path / "robot_spec.yaml") == blind


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["colour"], "red", "unknown key colour"),
        (["rate"], 20, "unknown key rate; did you mean rate_hz?"),
        (["name"], None, "name must be text, got nothing"),
        (["rate_hz"], "fast", "rate_hz must be a number, got text ('fast')"),
        (["rate_hz"], 0, "rate_hz must be positive and finite, is 0.0"),
        (["cameras", 0, "hight"], 96, "unknown key cameras[0].hight; did you mean height?"),
        (["cameras", 1, "name"], "front", "cameras names front more than once"),
        (["cameras", 0, "width"], -1, "cameras[0].width must be positive, is -1"),
        (["state"], 7, "state must be a list, got a whole number (7)"),
        (["state", 2, "size"], 9, "state[2].size is 9, a rot6d rotation has 6"),
        (["action", "mode"], "teleport", "action.mode must be one of 'ee_delta'"),
        (["action", "fields", 2, "size"], True, "action.fields[2].size must be a whole number, got true or false"),
        (["action", "fields", 2, "unit"], "degrees", "action.fields[2].unit must be one of 'rad'"),
        (["state", 0, "unit"], "%", "limits and kinematics need rad or deg, joint_position is in %"),
        (["action", "gripper"], None, "action.gripper and a field named gripper go together"),
        (["limits", "velocity"], [1, 2], "limits.velocity has 2 joints, position 7"),
        (["limits", "position", 3], [1, -1], "limits.position[3] must be [low, high] with low < high"),
        (["limits", "workspace", "x"], [0.1], "limits.workspace.x must have 2 entries, got 1"),
        (["kinematics", "joints"], ["joint1"], "limits.position has 7 joints, kinematics.joints 1"),
    ],
)
def test_a_mistake_is_named_by_its_path(spec: RobotSpec, path: list, value: object, message: str) -> None:
    data = spec.to_dict()
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(UserError) as error:
        RobotSpec.from_dict(data)
    assert str(error.value).startswith("robot spec: ") and message in str(error.value)


def test_a_missing_entry_is_named_by_its_path(spec: RobotSpec) -> None:
    data = spec.to_dict()
    del data["action"]["fields"][1]["size"]
    with pytest.raises(UserError, match=r"robot spec: action\.fields\[1\]\.size is missing"):
        RobotSpec.from_dict(data)


@pytest.mark.parametrize("content", ["", "- 1", "cameras: [", "\x00"])
def test_a_file_that_is_no_spec_is_one_clear_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "robot_spec.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match="robot spec") as error:
        RobotSpec.load(file)
    assert "\n" not in str(error.value) and str(file) in str(error.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        RobotSpec.load(tmp_path / "robot_spec.yaml")


def test_diff_names_what_differs_and_nothing_else(spec: RobotSpec) -> None:
    gripper = replace(spec.action.fields[2], size=2)
    other = replace(
        spec, cameras=spec.cameras[:1], action=replace(spec.action, fields=(*spec.action.fields[:2], gripper))
    )
    assert spec.diff(spec) == []
    assert spec.diff(other, "the checkpoint") == [
        "cameras[1] is wrist, the checkpoint has none",
        "action.fields[2].size is 1, the checkpoint has 2 (gripper)",
    ]


def test_limits_and_where_the_model_lies_make_no_other_robot(spec: RobotSpec) -> None:
    assert spec.limits and spec.kinematics
    raised = replace(spec, limits=replace(spec.limits, tool_speed=1.0))
    moved = replace(spec, kinematics=replace(spec.kinematics, model="/elsewhere/arm.xml"))
    for other in (raised, moved, replace(spec, limits=None, kinematics=None)):
        spec.check_robot(other)
        other.check_robot(spec)
        assert spec.diff(other) == [] and spec.diff(other, whole=True)
    flanged = replace(spec, kinematics=replace(spec.kinematics, tool_frame="flange"))
    assert spec.diff(flanged) == ["kinematics.tool_frame is tool, the other has flange"]


def test_a_robot_with_nothing_in_common_is_told_in_one_short_line(spec: RobotSpec) -> None:
    aloha = RobotSpec.load(assets.find("robot", "aloha"))
    with pytest.raises(
        UserError, match=r"another robot: .*action 7 \(ee_delta\); and this is aloha: .*; vla spec diff"
    ) as told:
        spec.check_robot(aloha)
    assert len(str(told.value)) < 300 and "\n" not in str(told.value)


def test_holding_is_zero_motion_with_the_gripper_kept_in_delta_modes(spec: RobotSpec) -> None:
    last = np.arange(1, 8, dtype=np.float32)
    np.testing.assert_array_equal(spec.hold_action(last), [0, 0, 0, 0, 0, 0, 7])


def test_holding_is_the_last_command_in_pose_modes(spec: RobotSpec) -> None:
    last = np.arange(1, 8, dtype=np.float32)
    pose = replace(spec, action=replace(spec.action, mode="joint_position"))
    np.testing.assert_array_equal(pose.hold_action(last), last)


def test_asking_for_a_camera_the_robot_lacks_lists_those_it_has(spec: RobotSpec) -> None:
    with pytest.raises(UserError, match="no camera 'top'; it has front, wrist"):
        spec.camera("top")


def test_yaml_on_disk_is_plain(spec: RobotSpec, tmp_path: Path) -> None:
    spec.save(tmp_path / "robot_spec.yaml")
    assert yaml.safe_load((tmp_path / "robot_spec.yaml").read_text())["action"]["gripper"] == "1 = open, 0 = closed"


def test_a_rate_that_datasets_cannot_have_is_named(spec: RobotSpec) -> None:
    assert spec.fps == 20
    with pytest.raises(UserError, match=r"rate_hz is 12.5; datasets want a whole number"):
        _ = replace(spec, rate_hz=12.5).fps
