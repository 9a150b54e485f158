"""Two policies: one that asks the environment's expert, so that episodes end soon and well; a tiny untrained one."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vla import assets
from vla.robots.gym_sim import GymRobot, make_robot
from vla.s2.places import place_words
from vla.s2.thought import Thought
from vla.spec import RobotSpec


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


def save_untrained_policy(folder: Path) -> Path:
    """A whole but tiny checkpoint with random weights, the same every time."""
    from vla.actions.normalize import Normalizer
    from vla.s1.system import FastConfig, FastSystem
    from vla.s2.small import SmallShape, small_slow_system
    from vla.tandem import TandemConfig, TandemPolicy

    torch.manual_seed(0)
    spec = RobotSpec.load(assets.find("robot", "tabletop"))
    shape = SmallShape(channels=(16, 16, 16, 16), width=32, layers=1, heads=2, mlp=32, vocabulary=400)
    s2 = small_slow_system(["lift the red cube", "push the blue ball to the left"], shape=shape)
    fast = FastConfig(channels=(16, 16, 16, 16), width=32, layers=1, heads=2, mlp=32, horizon=8)
    s1 = FastSystem(fast, spec.state_size, spec.action_size, s2.latent_shape)
    rng = np.random.default_rng(0)
    spread = np.array([0.01] * 3 + [0.02] * 3 + [1.0])
    normalizer = Normalizer.fit(rng.normal(size=(64, spec.state_size)), spread * rng.uniform(-1, 1, (64, 7)))
    TandemPolicy(spec, s2.eval(), s1.eval(), normalizer, TandemConfig(fast=fast)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    return save_untrained_policy(tmp_path_factory.mktemp("policies") / "untrained")
