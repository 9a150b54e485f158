"""A tabletop of coloured things and a seven-joint arm, as Gymnasium environments on MuJoCo."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")  # before mujoco is imported: no window is needed anywhere

import gymnasium  # noqa: E402

from gym_tabletop.palette import BUTTONS, CELL_CLASSES, COLOURS, PAIRS, SHAPES, TRAYS  # noqa: E402

gymnasium.register(id="gym_tabletop/Tabletop-v0", entry_point="gym_tabletop.env:TabletopEnv", max_episode_steps=240)

__all__ = ["BUTTONS", "CELL_CLASSES", "COLOURS", "PAIRS", "SHAPES", "TRAYS"]
