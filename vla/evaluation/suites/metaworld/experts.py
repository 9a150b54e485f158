"""MetaWorld's scripted policies as experts: closed-loop on the true state, for demonstrations and as an upper bound."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.evaluation.suites.metaworld.env import MetaWorldEnv, from_metaworld

SHOVE_EVERY, FUMBLE_EVERY = 40, 150
"""Mean steps between two disturbances: a shove of the hand, and a gripper that does the opposite."""


class ScriptedExpert:
    """Acts from the true state alone (the policies keep nothing), so knocked off course it finds its way back.

    subtask, progress: MetaWorld's policies do not say; "" and 0. disturbed: whether the last `perturb` made something
    else of the action.
    """

    subtask, progress = "", 0.0

    def __init__(self, env: MetaWorldEnv, rng: np.random.Generator) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        self._env, self._rng = env, rng
        policies: Any = ENV_POLICY_MAP
        self._policy = policies[env.task]()
        self._tremor = rng.uniform(0.0, 0.0008)
        self._shove: NDArray[np.float64] = np.zeros(3)
        self._shove_steps = self._fumble_steps = 0
        self.disturbed = False

    def act(self) -> NDArray[np.float32]:
        """The action (4,) for the state the environment is in."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its wishes exceed what an action can say, which is clipped
            return from_metaworld(self._policy.get_action(self._env.scene.observation))

    def moved(self, action: NDArray[np.float32]) -> None:
        """Somebody else moved the hand: nothing to remember."""

    def perturb(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the hand really does: tremor, now and then a shove or a fumble to recover from (DART, Laskey 2017)."""
        if self._shove_steps == 0 and self._rng.random() < 1 / SHOVE_EVERY:
            self._shove, self._shove_steps = self._rng.normal(0, 0.006, 3), int(self._rng.integers(3, 11))
        if self._fumble_steps == 0 and self._rng.random() < 1 / FUMBLE_EVERY:
            self._fumble_steps = int(self._rng.integers(3, 11))
        moved = action.copy()
        self.disturbed = self._shove_steps > 0 or self._fumble_steps > 0
        moved[:3] += self._rng.normal(0, self._tremor, 3)
        if self._shove_steps > 0:
            self._shove_steps -= 1
            moved[:3] += self._shove
        if self._fumble_steps > 0:
            self._fumble_steps -= 1
            moved[3] = 1 - moved[3]
        bounds: Any = self._env.action_space
        return np.clip(moved, bounds.low, bounds.high).astype(np.float32)


def make_expert(env: MetaWorldEnv, rng: np.random.Generator) -> ScriptedExpert:
    """An expert for the task at hand; make a new one after each reset."""
    return ScriptedExpert(env, rng)
