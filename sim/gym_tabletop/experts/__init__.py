"""Scripted experts: closed-loop on the true state, for demonstrations and as an upper bound."""

from typing import TYPE_CHECKING

import numpy as np

from gym_tabletop.experts.base import Expert, Move
from gym_tabletop.experts.furniture import close_drawer, open_drawer, press
from gym_tabletop.experts.pick import lift, place, stack
from gym_tabletop.experts.push import push

if TYPE_CHECKING:
    from gym_tabletop.env import TabletopEnv

MOVES: dict[str, Move] = {
    "push": push,
    "lift": lift,
    "place": place,
    "press": press,
    "open": open_drawer,
    "close": close_drawer,
    "stack": stack,
}


def make_expert(env: "TabletopEnv", rng: np.random.Generator) -> Expert:
    """An expert for whatever `env` asks for; make a new one after each reset."""
    return Expert(env, rng, MOVES)


__all__ = ["MOVES", "Expert", "make_expert"]
