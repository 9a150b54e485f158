"""`vla spec init` guesses units, grippers and modes from names and ranges, and says so."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import yaml

from vla.data.draft_spec import draft_spec
from vla.errors import UserError
from vla.spec import RobotSpec

SO101 = ("shoulder_pan.pos", "shoulder_lift.pos", "elbow_flex.pos", "wrist_flex.pos", "wrist_roll.pos", "gripper.pos")
ALOHA = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
SIDES = ("left", "right")


def recorded(root: Path, names: object, state: np.ndarray, action: np.ndarray | None = None) -> Path:
    """A dataset without cameras that LeRobot itself wrote."""
    from lerobot.datasets import LeRobotDataset

    logging.getLogger("lerobot").setLevel(logging.ERROR)
    action = state if action is None else action
    feature = {"dtype": "float32", "shape": (state.shape[1],), "names": names}
    dataset = LeRobotDataset.create(
        "local/mine", 30, {"observation.state": feature, "action": feature}, root=root, use_videos=False
    )
    for now, then in zip(state.astype(np.float32), action.astype(np.float32), strict=True):
        dataset.add_frame({"observation.state": now, "action": then, "task": "wave"})
    dataset.save_episode()
    dataset.finalize()
    return root


def moving(low: list[float], high: list[float], frames: int = 40) -> np.ndarray:
    return np.linspace(low, high, frames)


def drafted(root: Path) -> RobotSpec:
    return RobotSpec.from_dict(yaml.safe_load(draft_spec(root)))


def units(spec: RobotSpec) -> list[tuple[str, int, str]]:
    assert [field.name for field in spec.state] == [field.name for field in spec.action.fields]
    return [(field.name, field.size, field.unit) for field in spec.state]


def test_one_arm_in_degrees_with_a_gripper_in_percent(tmp_path: Path) -> None:
    spec = drafted(recorded(tmp_path / "mine", list(SO101), moving([-40] * 5 + [2], [120] * 5 + [90])))
    assert units(spec) == [("joint_position", 5, "deg"), ("gripper", 1, "%")]
    assert (spec.action.mode, spec.action.gripper, spec.rate_hz) == ("joint_position", "1 = open, 0 = closed", 30)


def test_an_arm_that_hardly_moves_has_the_unit_of_the_other(tmp_path: Path) -> None:
    names = [f"{side}_{name}" for side in SIDES for name in SO101]
    spec = drafted(recorded(tmp_path / "mine", names, moving([0] * 12, [1] * 6 + [120] * 5 + [90])))
    joints, gripper = ("left_joint_position", 5, "deg"), ("left_gripper", 1, "%")
    assert units(spec) == [joints, gripper, ("right_joint_position", 5, "deg"), ("right_gripper", 1, "%")]
    assert spec.action.gripper is None


def test_aloha_names_in_radians_nested_as_lerobot_once_wrote_them(tmp_path: Path) -> None:
    names = [f"{side}_{name}" for side in SIDES for name in ALOHA]
    root = recorded(tmp_path / "mine", names, moving([-1.5] * 6 + [0] + [-1] * 6 + [0], [1.2] * 6 + [1] + [1] * 7))
    info = json.loads((root / "meta" / "info.json").read_text())
    for key in ("action", "observation.state"):
        info["features"][key]["names"] = {"motors": names}
    (root / "meta" / "info.json").write_text(json.dumps(info))
    joints, gripper = ("left_joint_position", 6, "rad"), ("left_gripper", 1, "1")
    assert units(drafted(root)) == [joints, gripper, ("right_joint_position", 6, "rad"), ("right_gripper", 1, "1")]


def test_joints_around_a_gripper_and_names_without_any_meaning(tmp_path: Path) -> None:
    values = moving([-1, 0, -1], [1, 1, 1])
    assert units(drafted(recorded(tmp_path / "mine", ["a.pos", "gripper.pos", "b.pos"], values))) == [
        ("joint_position", 1, "rad"),
        ("gripper", 1, "1"),
        ("joint_position_2", 1, "rad"),
    ]
    nameless = recorded(tmp_path / "nameless", None, values)
    assert units(drafted(nameless)) == [("joint_position", 3, "rad")]
    assert "check which entries are joints" in draft_spec(nameless)


def test_actions_far_from_the_state_are_asked_about(tmp_path: Path) -> None:
    state = moving([60] * 6, [70] * 6)
    deltas = np.full_like(state, 0.3)
    assert "# check: are these deltas?" in draft_spec(recorded(tmp_path / "deltas", list(SO101), state, deltas))
    assert "# absolute: half of the actions" in draft_spec(recorded(tmp_path / "mine", list(SO101), state, state + 1))


def test_a_dataset_that_says_nothing_is_refused(tmp_path: Path) -> None:
    root = recorded(tmp_path / "mine", list(SO101), np.full((5, 6), np.nan))
    with pytest.raises(UserError, match="no frame has finite states and actions"):
        draft_spec(root)
    with pytest.raises(UserError, match=r"no meta/info\.json"):
        draft_spec(tmp_path)
