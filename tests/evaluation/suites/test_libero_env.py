"""LIBERO's adapter as far as it goes without LIBERO: its protocol, its numbers, and what it says is missing."""

import importlib.machinery
import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vla import assets
from vla.data.card import Card
from vla.errors import UserError
from vla.evaluation.suites.libero import HORIZONS, axis_angle, check_libero, read_states, to_libero, translate
from vla.evaluation.suites.listing import Listing
from vla.robots.gym_sim import find_environment, make_robot
from vla.spec import RobotSpec


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An empty folder that is found as LIBERO's package."""
    root = tmp_path / "site" / "libero"
    (root / "libero").mkdir(parents=True)
    spec = importlib.machinery.ModuleSpec("libero", None, is_package=True)
    spec.submodule_search_locations = [str(root)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(tmp_path / "config"))
    return root


def test_the_horizons_are_those_of_lerobots_evaluation():
    found = importlib.util.find_spec("lerobot")
    if found is None or not found.submodule_search_locations:
        pytest.skip("LeRobot is not installed")
    source = (Path(found.submodule_search_locations[0]) / "envs/libero.py").read_text(encoding="utf-8")
    for suite, steps in HORIZONS.items():
        assert f'"libero_{suite}": {steps},' in source
    assert "num_steps_wait: int = 10" in source and "[0, 0, 0, 0, 0, 0, -1]" in source


def test_the_robot_is_the_one_of_the_demonstrations():
    robot = RobotSpec.load(assets.find("robot", "libero_panda"))
    recorded = Card.load(assets.find("card", "libero")).spec({"front": (128, 128), "wrist": (128, 128)})
    assert robot.diff(recorded) == []


def test_commands_are_what_the_card_makes_metres_of():
    command = np.array([1.0, -0.5, 0.0, 0.2, 0.0, -1.0, 1.0])
    action = np.concatenate([0.05 * command[:3], 0.5 * command[3:6], [0.5 - 0.5 * command[6]]])
    np.testing.assert_allclose(to_libero(action.astype(np.float32)), command, atol=1e-6)
    assert to_libero(np.array([9, 0, 0, 0, 0, 0, 1], np.float32)).tolist() == [1, 0, 0, 0, 0, 0, -1]


def test_rotations_go_beyond_half_a_turn_as_in_the_demonstrations():
    turned = Rotation.from_rotvec([0.3, -1.0, 0.5])
    np.testing.assert_allclose(axis_angle(turned.as_quat(canonical=True)), turned.as_rotvec(), atol=1e-9)
    negative = -turned.as_quat(canonical=True)
    assert np.linalg.norm(axis_angle(negative)) > np.pi
    np.testing.assert_allclose(Rotation.from_rotvec(axis_angle(negative)).as_matrix(), turned.as_matrix(), atol=1e-9)
    assert axis_angle(np.array([0, 0, 0, 1.0])).tolist() == [0, 0, 0]


def test_pictures_are_turned_upright_and_the_state_is_in_the_specs_order():
    rows = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 3), np.uint8)
    seen = translate(
        {
            "robot0_joint_pos": np.arange(7.0),
            "robot0_eef_pos": np.array([7.0, 8, 9]),
            "robot0_eef_quat": np.array([1.0, 0, 0, 0]),
            "robot0_gripper_qpos": np.array([0.04, -0.04]),
            "agentview_image": rows,
            "robot0_eye_in_hand_image": rows,
        }
    )
    assert seen["pixels"]["front"][:, 0, 0].tolist() == [3, 2, 1, 0]
    expected = [*range(10), np.pi, 0, 0, 0.04, -0.04]
    np.testing.assert_allclose(seen["agent_pos"], expected, atol=1e-6)


def test_initial_states_are_read_and_nothing_but_arrays(tmp_path):
    states = np.random.default_rng(0).normal(size=(3, 5))
    torch.save(states, tmp_path / "task.pruned_init")
    assert np.array_equal(read_states(tmp_path / "task.pruned_init"), states)

    class Wicked:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    torch.save(Wicked(), tmp_path / "wicked", pickle_module=pickle)
    for name in ("wicked", "missing"):
        with pytest.raises(UserError, match="cannot be read") as refused:
            read_states(tmp_path / name)
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "written").exists()
    torch.save(states[0], tmp_path / "flat")
    with pytest.raises(UserError, match="no table of numbers"):
        read_states(tmp_path / "flat")


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="hf-libero is missing: pip install 'hf-libero"):
        make_robot("libero-goal")
    with pytest.raises(UserError, match="libero is missing: pip install"):
        check_libero()
    assert "pip install" in (Listing.of("libero-10").missing or "")


def test_what_is_missing_beside_the_package_is_one_line(package, tmp_path):
    with pytest.raises(UserError, match=r"no .*config\.yaml, which it asks for"):
        check_libero()
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text("assets: somewhere\n")
    with pytest.raises(UserError, match="meshes and textures are not in"):
        check_libero()
    (package / "libero" / "assets").mkdir()
    check_libero()


def test_tasks_are_numbers():
    assert find_environment("libero-spatial", "7").families == tuple("0123456789")
    with pytest.raises(UserError, match="unknown task of libero-spatial: '10'"):
        find_environment("libero-spatial", "10")
