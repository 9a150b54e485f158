"""Pictures for people: the same scene as the robot's cameras see, larger."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from vla.robots.gym_sim import make_robot
from vla.teleop.pictures import CameraPictures, TwinPictures

PATIENCE_S = 300


@pytest.fixture
def robot():
    made = make_robot("tabletop")
    yield made
    made.close()


def shown(pictures, after):
    deadline = time.monotonic() + PATIENCE_S
    while not (newest := pictures.newest()) or newest["front"].captured <= after:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return newest


def test_a_twin_shows_each_scene_in_large(robot):
    pictures = TwinPictures("tabletop")
    try:
        for seed, captured in ((5, 1.0), (6, 2.0)):
            small = robot.reset(seed).images["front"]
            pictures.offer(robot, SimpleNamespace(seed=seed, captured=captured))
            large = shown(pictures, captured - 0.5)["front"].image
            assert large.shape == (384, 384, 3)
            shrunk = large.reshape(96, 4, 96, 4, 3).mean((1, 3))
            assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.95
    finally:
        pictures.close()


def test_a_robots_own_pictures_are_passed_on_as_they_are(robot):
    pictures = CameraPictures()
    seen = robot.reset(5)
    pictures.offer(robot, SimpleNamespace(observation=seen, captured=3.0, step=7))
    assert pictures.newest()["wrist"].image is seen.images["wrist"] and pictures.newest()["wrist"].captured == 3.0
