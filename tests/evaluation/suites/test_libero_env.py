"""LIBERO's adapter as far as it goes without LIBERO: its protocol, its numbers, and what it says is missing."""

import importlib.machinery
import importlib.util
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vla import assets
from vla.data.card import Card
from vla.errors import UserError
from vla.evaluation.instructions import paraphrase, split_of
from vla.evaluation.suites.libero import (
    HORIZONS,
    axis_angle,
    check_libero,
    other_words,
    read_states,
    to_libero,
    translate,
)
from vla.evaluation.suites.listing import Listing
from vla.robots.gym_sim import find_environment, make_robot
from vla.spec import RobotSpec

STAND_IN = """
from types import SimpleNamespace

import numpy as np

class Goal:
    def get_task(self, number):
        said = "turn on the stove" if number == 7 else f"do number {number}"
        return SimpleNamespace(language=said, problem_folder="", init_states_file="goal.pruned_init")
    def get_task_bddl_file_path(self, number):
        return ""

class OffScreenRenderEnv:
    def __init__(self, **options):
        self.picture = np.zeros((128, 128, 3), np.uint8)
    def set_init_state(self, state):
        sizes = {"joint_pos": 7, "eef_pos": 3, "eef_quat": 4, "gripper_qpos": 2}
        seen = {f"robot0_{name}": np.zeros(size) for name, size in sizes.items()}
        return seen | {name: self.picture for name in ("agentview_image", "robot0_eye_in_hand_image")}
    def step(self, action):
        return self.set_init_state(None), 0.0, False, {}
    def seed(self, seed): ...
    def reset(self): ...
    def close(self): ...

def get_benchmark_dict():
    return {"libero_goal": Goal}

def get_libero_path(what):
    return WHERE
"""


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


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A package in LIBERO's place, with ten tasks and a robot that does not move."""
    if importlib.util.find_spec("libero"):
        pytest.skip("the real one is installed")
    inner = tmp_path / "libero" / "libero"
    (inner / "assets").mkdir(parents=True)
    (inner / "__init__.py").write_text(STAND_IN.replace("WHERE", repr(str(tmp_path))))
    for name in ("benchmark", "envs"):
        (inner / f"{name}.py").write_text("from libero.libero import *\n")
    (tmp_path / "config.yaml").touch()
    torch.save(np.zeros((1, 2)), tmp_path / "goal.pruned_init")
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "libero"]:
        del sys.modules[name]


def test_a_paraphrase_asks_the_same_in_words_that_no_demonstration_uses(stand_in):
    with make_robot("libero-goal") as robot:
        for _ in range(2):
            robot.reset(7)
            assert robot.instruction == "turn on the stove"
            text = paraphrase(robot, 7)
            robot.set_instruction(text)
            assert robot.instruction == text != "turn on the stove"
            assert split_of(text, robot.instructions()) == "phrasing"
            assert len(robot.others()) == 9 and "turn on the stove" not in robot.others()
        with pytest.raises(UserError):
            robot.set_instruction("do number 3")
        robot.reset(3)
        assert robot.paraphrases() == [], "a task that we have no words for"


def test_every_sentence_of_libero_has_others_that_are_its_alone():
    others = [text for texts in other_words().values() for text in texts]
    assert len(other_words()) == 40 and all(len(texts) == 2 for texts in other_words().values())
    assert len(set(others)) == len(others) and not set(others) & set(other_words())


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
