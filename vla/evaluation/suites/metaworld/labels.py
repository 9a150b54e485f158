"""What is true of a still scene of MetaWorld: labels for training, read from the simulator, never an observation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.evaluation.suites.metaworld.env import MetaWorldEnv
from vla.evaluation.suites.metaworld.table import thing_names
from vla.robots.benchmarks import METAWORLD_MT50
from vla.s2.places import place_words

CLASSES = thing_names()
FAMILIES = METAWORLD_MT50
CELL, LEAST_PIXELS, LEAST_SHARE = 8, 3, 0.2
"""A thing is seen if it covers so many pixels, and named in a cell of 8 x 8 that it covers a fifth of."""

Question = dict[str, Any]


def label(env: MetaWorldEnv, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32], list[Question]]:
    """Classes of cells (S/8, S/8), presence and place of every class (C, 3), and questions on `env` as it stands."""
    names = list(env.scene.task.things)
    classes = np.array([0, *(1 + CLASSES.index(name) for name in names)])
    seen = classes[env.scene.geometry()]
    objects = np.zeros((len(CLASSES), 3), np.float32)
    for name in names:
        rows, columns = np.nonzero(seen == 1 + CLASSES.index(name))
        if len(rows) >= LEAST_PIXELS:
            objects[CLASSES.index(name)] = (1, (columns.mean() + 0.5) / len(seen), (rows.mean() + 0.5) / len(seen))
    return _cells(seen), objects, _questions(env, objects, rng)


def _cells(seen: NDArray[np.integer]) -> NDArray[np.uint8]:
    side = len(seen) // CELL
    blocks = seen.reshape(side, CELL, side, CELL).swapaxes(1, 2).reshape(side, side, CELL * CELL)
    counts = (blocks[..., None] == np.arange(1, len(CLASSES) + 1)).sum(axis=2)
    return np.where(counts.max(-1) >= LEAST_SHARE * CELL * CELL, counts.argmax(-1) + 1, 0).astype(np.uint8)


def _questions(env: MetaWorldEnv, objects: NDArray[np.float32], rng: np.random.Generator) -> list[Question]:
    """The task in every wording of training, where each thing is, what is not there, and all of it in one sentence."""
    task = env.scene.task
    target, goal = (
        place if max(np.abs(np.subtract(place, 0.5))) <= 0.5 else None for place in env.annotation().values()
    )
    family = FAMILIES.index(env.task)
    where = f" at {place_words(*target)}" if target else ""
    found = [
        _question("instruction", text, f"the {task.target}{where}", target, goal, family)
        for text in task.sentences("train")
    ]
    places = {name: tuple(map(float, objects[CLASSES.index(name), 1:])) for name in task.things}
    shown = {name: place for name, place in places.items() if objects[CLASSES.index(name), 0]}
    for name, place in shown.items():
        found.append(_question("pointing", f"where is the {name}?", place_words(*place), place))
        found.append(_question("existence", f"is there a {name}?", f"at {place_words(*place)} yes"))
    absent = [name for name in CLASSES if name not in task.things]
    found += [_question("existence", f"is there a {name}?", "no") for name in rng.choice(absent, 2, replace=False)]
    listed = ", ".join(f"a {name} at {place_words(*place)}" for name, place in shown.items()) or "nothing"
    return [*found, _question("caption", "what do you see, and where?", listed)]


def _question(
    kind: str,
    prompt: str,
    answer: str,
    target: tuple[float, ...] | None = None,
    goal: tuple[float, ...] | None = None,
    family: int = -1,
) -> Question:
    return {"kind": kind, "prompt": prompt, "answer": answer, "target": target, "goal": goal, "family": family}
