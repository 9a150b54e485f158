"""MetaWorld's MT1, MT10 and MT50 (arXiv 1910.10897, `metaworld` 3.x), asked for in words and seen through cameras."""

import gymnasium

from vla.robots.gym_sim import METAWORLD_ID

gymnasium.register(id=METAWORLD_ID, entry_point="vla.evaluation.suites.metaworld.env:MetaWorldEnv")
