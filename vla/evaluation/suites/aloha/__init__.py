"""The simulated tasks of ALOHA (arXiv 2304.13705, `gym-aloha`), asked for in words, and an expert for one of them."""

import gymnasium

from vla.robots.gym_sim import ALOHA_ID

gymnasium.register(id=ALOHA_ID, entry_point="vla.evaluation.suites.aloha.env:AlohaEnv")
