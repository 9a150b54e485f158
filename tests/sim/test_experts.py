"""The scripted experts do what they demonstrate, also when their hand is knocked off course."""

import gymnasium
import numpy as np
import pytest

import gym_tabletop  # noqa: F401
from gym_tabletop.experts import make_expert
from gym_tabletop.tasks import TASKS


def run(env, seed, disturbed):
    env.reset(seed=seed)
    expert = make_expert(env.unwrapped, np.random.default_rng(seed))
    words, info = [], {}
    for _ in range(240):
        action = expert.act()
        words.append(expert.subtask)
        _, _, done, cut, info = env.step(expert.perturb(action) if disturbed else action)
        if done or cut:
            break
    return info["is_success"], words


@pytest.mark.parametrize("disturbed", [False, True], ids=["steady", "disturbed"])
@pytest.mark.parametrize("task", TASKS)
def test_experts_succeed(task, disturbed):
    env = gymnasium.make("gym_tabletop/Tabletop-v0", task=task, render=False)
    outcomes = [run(env, seed, disturbed)[0] for seed in range(1000, 1025)]
    env.close()
    assert np.mean(outcomes) >= 0.96


def test_demonstrations_are_not_one_trajectory():
    env = gymnasium.make("gym_tabletop/Tabletop-v0", task="lift", render=False)
    actions = []
    for expert_seed in range(2):
        env.reset(seed=0)
        actions.append(make_expert(env.unwrapped, np.random.default_rng(expert_seed)).act())
    env.close()
    assert not np.allclose(actions[0], actions[1])


def test_subtasks_come_in_the_order_of_the_task():
    env = gymnasium.make("gym_tabletop/Tabletop-v0", task="place", render=False)
    _, words = run(env, 0, disturbed=False)
    env.close()
    verbs = list(dict.fromkeys(word.split()[0] for word in words))
    assert verbs == ["reach", "grasp", "lift", "carry", "lower", "let"]
