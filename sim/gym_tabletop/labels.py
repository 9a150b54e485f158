"""What is true of a still scene: dense labels of its front image, and questions with answers."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gym_tabletop.experts import MOVES, make_expert
from gym_tabletop.palette import CELL_CLASSES as CLASSES
from gym_tabletop.scene_truth import Scene
from gym_tabletop.words import Doing, make_questions

if TYPE_CHECKING:
    from gym_tabletop.env import TabletopEnv

FAMILIES = tuple(MOVES)


def label(
    env: "TabletopEnv", rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32], list[dict[str, Any]]]:
    """Classes of cells (S/8, S/8), presence and place of every class (C, 3), and questions on `env` as it stands."""
    cells = env.cells()
    scene = _as_seen(env, cells)
    objects = np.zeros((len(CLASSES), 3), np.float32)
    for thing in scene.things:
        if thing.visible:
            objects[CLASSES.index(thing.name)] = (1, *thing.pixel)
    expert = make_expert(env, rng)
    expert.act()  # closed-loop: what it would do now says how far things are
    doing = Doing(env.instruction(), expert.subtask, expert.progress)
    questions = make_questions(scene, [*env.instructions(), *env.half_done()], FAMILIES, rng, doing)
    return cells, objects, [question.to_dict() for question in questions]


def _as_seen(env: "TabletopEnv", cells: NDArray[np.uint8]) -> Scene:
    """The scene, with things the arm or others hide no longer visible: words must not ask for the unseen."""
    scene = env.scene()
    names = {CLASSES[i - 1] for i in np.unique(cells) if i}
    if any(t.visible and t.name not in names for t in scene.things):  # small ones may fill no whole cell
        names |= {CLASSES[i - 1] for i in np.unique(env.cells(4)) if i}
    return replace(scene, things=tuple(replace(t, visible=t.visible and t.name in names) for t in scene.things))


__all__ = ["CLASSES", "FAMILIES", "label"]
