"""What the front image shows, cell by cell: dense labels that the simulator gives for free."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from gym_tabletop import scene
from gym_tabletop.layout import Layout
from gym_tabletop.palette import CELL_CLASSES, DRAWER, SHAPES


def class_of_geoms(model: mujoco.MjModel, layout: Layout) -> NDArray[np.uint8]:
    """The class of each geom: its index in CELL_CLASSES + 1, or 0; the last entry serves id -1: nothing there."""
    owner = np.zeros(model.ngeom + 1, np.uint8)
    for slot, pose in enumerate(layout.objects):
        for shape in SHAPES:
            owner[model.geom(f"object{slot}_{shape}").id] = CELL_CLASSES.index(pose.pair) + 1
    for index, (colour, _, _) in enumerate(layout.trays):
        owner[scene.geoms_of(model, f"tray{index}")] = CELL_CLASSES.index(f"{colour} tray") + 1
    for index, colour in enumerate(layout.panel[1:]):
        owner[model.geom(f"button{index}").id] = CELL_CLASSES.index(f"{colour} button") + 1
    if layout.drawer:
        for body in ("cabinet", "drawer"):
            owner[scene.geoms_of(model, body)] = CELL_CLASSES.index(DRAWER) + 1
    return owner


def majority(seen: NDArray[np.uint8], cell: int) -> NDArray[np.uint8]:
    """What most of each cell of an image of classes (S, S) shows: (S / cell, S / cell), a class or 0."""
    side = len(seen) // cell
    blocks = seen.reshape(side, cell, side, cell).swapaxes(1, 2).reshape(side, side, cell * cell)
    counts = (blocks[..., None] == np.arange(1, len(CELL_CLASSES) + 1)).sum(axis=2)
    enough = counts.max(axis=-1) >= cell * cell // 5  # small things never fill half a cell
    return np.where(enough, counts.argmax(axis=-1) + 1, 0).astype(np.uint8)
