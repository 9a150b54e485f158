"""A policy that asks the environment's expert, so that episodes end soon and well."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vla.robots.gym_sim import GymRobot, make_robot
from vla.s2.places import place_words
from vla.s2.thought import Thought


class ExpertPolicy:
    """Knows the robot it drives."""

    def __init__(self, robot) -> None:
        self.spec = robot.spec
        self.config = SimpleNamespace(replan_steps=1)
        self._robot = robot
        self._assignment = None

    @property
    def _env(self):
        return self._robot._env.unwrapped

    def think(self, images, instruction, stamp, instruction_id=0, words=False) -> Thought:
        asked = self._env.instruction()
        text = f"the {asked.target} {place_words(*asked.target_pixel)}" if words else None
        return Thought(torch.zeros(2, 3), stamp, instruction_id, text)

    def act(self, images, state, thought, now, prefix) -> np.ndarray:
        from gym_tabletop.experts import make_expert

        if self._assignment is not self._env.assignment or now == 0:
            self._assignment = self._env.assignment
            self._expert = make_expert(self._env, np.random.default_rng(0))
        return np.tile(self._expert.act(), (12, 1)).astype(np.float32)


@pytest.fixture(scope="session")
def robot():
    with make_robot("tabletop") as robot:
        robot.reset(0)
        yield robot


@pytest.fixture
def expert(robot):
    return ExpertPolicy(robot)


@pytest.fixture
def expert_anywhere(robot, monkeypatch):
    """An expert for the robots that the code under test builds itself: it turns to each when that connects."""
    policy = ExpertPolicy(robot)
    connect = GymRobot.connect

    def connect_and_tell(built: GymRobot) -> None:
        connect(built)
        policy._robot = built

    monkeypatch.setattr(GymRobot, "connect", connect_and_tell)
    return policy
