"""Scripted experts: closed-loop on the true state, for demonstrations and as an upper bound."""

from typing import TYPE_CHECKING

import numpy as np

from gym_tabletop.experts.base import Expert
from gym_tabletop.experts.pick import LiftExpert, PlaceExpert
from gym_tabletop.experts.push import PushExpert

if TYPE_CHECKING:
    from gym_tabletop.env import TabletopEnv

_EXPERTS: dict[str, type[Expert]] = {"push": PushExpert, "lift": LiftExpert, "place": PlaceExpert}


def make_expert(env: "TabletopEnv", rng: np.random.Generator) -> Expert:
    """The expert for the task `env` has been given; make a new one after each reset or change of instruction."""
    return _EXPERTS[env.task](env, rng)


__all__ = ["Expert", "make_expert"]
