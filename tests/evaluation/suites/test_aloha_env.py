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


@pytest.mark.parametrize("seed", [0, 1])
def test_an_expert_hands_the_cube_over_even_if_its_hands_are_shoved(seed):
    make_expert = expert_maker(find_environment("aloha", "transfer_cube"))
    with make_robot("aloha", task="transfer_cube", lazy=True) as robot:
        robot.reset(seed)
        env = robot.environment
        expert = make_expert(env, np.random.default_rng(seed))
        said = []
        for _ in range(robot.max_steps):
            _, _, done, _, _ = env.step(expert.perturb(expert.act()))
            said.append(expert.subtask)
            if done:
                break
        assert done
        order = list(dict.fromkeys(said))
        assert [order.index(step) for step in ("reach the cube", "lift the cube", "hand the cube over")] == [0, 1, 2]


def test_an_insertion_has_no_expert():
    make_expert = expert_maker(find_environment("aloha", "insertion"))
    with make_robot("aloha", task="insertion", lazy=True) as robot:
        robot.reset(0)
        with pytest.raises(UserError, match="task insertion has no expert"):
            make_expert(robot.environment, np.random.default_rng(0))
