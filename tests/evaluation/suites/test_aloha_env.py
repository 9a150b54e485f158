"""ALOHA as an environment: joints as targets, objects placed by gym-aloha's own sampler."""

import numpy as np
import pytest

pytest.importorskip("gym_aloha")

from gym_aloha.utils import sample_box_pose

from vla.data.attempts import expert_maker
from vla.errors import UserError
from vla.robots.gym_sim import find_environment, make_robot


def test_a_seed_places_the_cube_and_targets_beyond_one_radian_are_followed():
    with make_robot("aloha", task="transfer_cube", lazy=True) as robot:
        first = robot.reset(3)
        physics = robot.environment._envs["transfer_cube"]._env.physics
        np.testing.assert_allclose(physics.data.qpos[-7:-4], sample_box_pose(3)[:3], atol=1e-6)
        assert first.state.shape == (14,) and first.images["front"].shape == (480, 640, 3)
        assert first.images["front"].std() > 10
        assert robot.max_steps == 400 and robot.family == "transfer_cube"
        target = first.state.copy()
        target[2] += 0.3  # the elbow, at 1.16 rad
        for _ in range(25):
            robot.command(target)
        assert abs(robot.observe().state[2] - target[2]) < 0.15
        assert not robot.success and not robot.finished


def test_there_are_no_experts_to_collect_from():
    with pytest.raises(UserError, match="has no scripted experts; give --policy"):
        expert_maker(find_environment("aloha"))
