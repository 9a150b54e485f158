"""Pictures for people: the same scene as the robot's cameras see, larger."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from vla.robots.gym_sim import make_robot
from vla.teleop.bodies import choose_body
from vla.teleop.command import TeleopOptions
from vla.teleop.pictures import CameraPictures, TwinPictures

PATIENCE_S = 300
SEED = 69
"""Where the first scene that comes has nothing to ask for but what is held out."""


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


def test_an_environment_without_a_twin_shows_the_robots_own_pictures(tmp_path, monkeypatch):
    (tmp_path / "small_scene.py").write_text(
        "from dataclasses import replace\n"
        "from vla.robots.gym_sim import ENVIRONMENTS\n"
        "SCENE = replace(ENVIRONMENTS['tabletop'], twin_size=0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    body = choose_body(TeleopOptions("small_scene:SCENE", "web", tmp_path / "data", 0))
    pictures = body.pictures()
    with body.make() as robot:
        seen = robot.reset(5)
        pictures.offer(robot, SimpleNamespace(observation=seen, seed=5, captured=3.0, step=7))
        assert shown(pictures, 2.0)["front"].image is seen.images["front"]


def test_if_the_twin_cannot_be_drawn_people_see_the_robots_own_pictures(robot, capsys):
    pictures = TwinPictures("tabletop")
    seen = robot.reset(5)
    pictures.offer(robot, SimpleNamespace(seed="not a seed", captured=1.0))
    deadline = time.monotonic() + PATIENCE_S
    while "no large pictures" not in capsys.readouterr().err:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    while not pictures.newest():
        pictures.offer(robot, SimpleNamespace(observation=seen, seed=5, captured=3.0, step=7))
        assert time.monotonic() < deadline
    assert pictures.newest()["front"].image is seen.images["front"]
    pictures.close()


def laid(robot, seed):
    robot.reset(seed)
    return robot.environment.layout


def test_scenes_for_a_person_ask_for_nothing_that_is_held_out(tmp_path):
    body = choose_body(TeleopOptions("tabletop-suite", "web", tmp_path / "data", 0))
    with body.make() as robot:
        asked = set()
        for seed in range(40):
            robot.reset(seed)
            asked.add({one.text: one.split for one in robot.instructions()}[robot.instruction])
    assert asked == {"train"}


def test_a_twin_has_the_scenes_of_the_robot_it_is_for(tmp_path):
    """Where all that could be asked is held out, another scene is laid."""
    body = choose_body(TeleopOptions("tabletop-suite", "web", tmp_path / "data", 0))
    pictures = body.pictures()
    with body.make() as robot, make_robot("tabletop-suite", render=False) as tested:
        assert laid(robot, SEED) != laid(tested, SEED)
        try:
            pictures.offer(robot, SimpleNamespace(seed=SEED, captured=1.0))
            large = shown(pictures, 0.5)["front"].image
        finally:
            pictures.close()
        shrunk = large.reshape(96, 4, 96, 4, 3).mean((1, 3))
        assert np.corrcoef(shrunk.ravel(), robot.observe().images["front"].ravel())[0, 1] > 0.95


def test_a_robots_own_pictures_are_passed_on_as_they_are(robot):
    pictures = CameraPictures()
    seen = robot.reset(5)
    pictures.offer(robot, SimpleNamespace(observation=seen, captured=3.0, step=7))
    assert pictures.newest()["wrist"].image is seen.images["wrist"] and pictures.newest()["wrist"].captured == 3.0
