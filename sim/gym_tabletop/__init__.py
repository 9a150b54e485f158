"""A tabletop of coloured things and a seven-joint arm, as Gymnasium environments on MuJoCo."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")  # before mujoco is imported: no window is needed anywhere
os.environ.setdefault("LP_NUM_THREADS", "1")  # software rasteriser threads only wait on each other in small images

import gymnasium

from gym_tabletop.palette import BUTTONS, CELL_CLASSES, COLOURS, PAIRS, SHAPES, TRAYS

gymnasium.register(id="gym_tabletop/Tabletop-v0", entry_point="gym_tabletop.env:TabletopEnv", max_episode_steps=240)

__all__ = ["BUTTONS", "CELL_CLASSES", "COLOURS", "PAIRS", "SHAPES", "TRAYS"]
