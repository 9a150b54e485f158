import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest

from vla.errors import UserError
from vla.robots.base import Robot, SimulatedRobot
from vla.robots.gym_sim import find_environment, make_robot


@pytest.fixture(scope="module")
def robot():
    with make_robot("tabletop") as robot:
        yield robot


def test_it_is_a_robot_that_knows_its_task(robot):
    robot.reset(0)
    assert isinstance(robot, Robot) and isinstance(robot, SimulatedRobot)


def test_observations_are_as_the_spec_says(robot):
    observation = robot.reset(0)
    assert list(observation.images) == list(robot.spec.camera_names)
    for camera in robot.spec.cameras:
        image = observation.images[camera.name]
        assert image.shape == (camera.height, camera.width, 3) and image.dtype == np.uint8
    assert observation.state.shape == (robot.spec.state_size,) and observation.state.dtype == np.float32


def test_the_stamp_counts_control_periods(robot):
    assert robot.reset(0).stamp == 0
    hold = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
    for _ in range(3):
        robot.command(hold)
    assert robot.observe().stamp == pytest.approx(0.15)


def test_the_seed_alone_decides_the_scene(robot):
    first, words = robot.reset(7), robot.instruction
    robot.reset(8)
    again = robot.reset(7)
    assert robot.instruction == words
    assert np.array_equal(first.state, again.state)
    assert all(np.array_equal(first.images[name], again.images[name]) for name in first.images)


def test_a_command_comes_back_as_it_was_sent(robot):
    robot.reset(0)
    sent = robot.command(np.array([9, -9, 0, 0, 0, 0, 5], np.float32))
    assert sent.tolist() == pytest.approx([0.04, -0.04, 0, 0, 0, 0, 1])


def test_another_instruction_of_the_scene_can_be_asked(robot):
    robot.reset(3)
    other = next(one for one in robot.instructions() if one.family != robot.family)
    robot.set_instruction(other.text)
    assert (robot.instruction, robot.family) == (other.text, other.family)
    assert not robot.success and not robot.finished


def test_an_impossible_instruction_is_refused_with_examples(robot):
    robot.reset(3)
    with pytest.raises(UserError, match=r"'make coffee' cannot be judged .*; try for example: \w+"):
        robot.set_instruction("make coffee")


def test_a_snapshot_can_be_pictured_later_without_touching_what_the_policy_sees(robot):
    robot.reset(3)
    seen = robot.observe().images["front"].copy()
    snapshot = robot.snapshot()
    then = robot.picture("front", snapshot)
    for _ in range(6):
        robot.command(np.array([0.03, 0, -0.03, 0, 0, 0, 0], np.float32))
    assert not np.array_equal(robot.picture("front", robot.snapshot()), then)
    assert np.array_equal(robot.picture("front", snapshot), then)
    assert then.shape == (384, 384, 3)
    assert np.array_equal(robot.reset(3).images["front"], seen)


def test_the_large_picture_shows_what_the_policy_saw(robot):
    import cv2

    image = robot.reset(5).images["front"]
    small = cv2.resize(robot.picture("front", robot.snapshot()), (96, 96), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(float) - image).mean() < 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tabeltop",), "unknown environment: 'tabeltop'; there are tabletop, "),
        (
            ("tabletop", "pusch"),
            "unknown task of tabletop: 'pusch'; there are all, push, lift, place; did you mean push",
        ),
        (("tabletop", "all", "test"), "unknown split of tabletop: 'test'; there are all, train, phrasing, pair"),
    ],
)
def test_unknown_names_are_refused_with_what_there_is(arguments, message):
    with pytest.raises(UserError) as refused:
        find_environment(*arguments)
    assert message in str(refused.value)


def test_no_window_is_needed_whatever_imports_mujoco_first() -> None:
    program = "import vla.actions.rotations, vla.robots.gym_sim as s\nwith s.make_robot('tabletop') as r: r.reset(0)"
    nothing_chosen = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "DISPLAY")}
    subprocess.run([sys.executable, "-c", program], env=nothing_chosen, check=True)


def test_a_missing_egl_names_the_packages(monkeypatch):
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(UserError, match=r"libEGL\.so\.1 is missing: apt install libegl1 libegl-mesa0 libgl1-mesa-dri"):
        make_robot("tabletop")
