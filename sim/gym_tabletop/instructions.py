"""From what could be asked in a scene to the sentence that asks it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gym_tabletop.scene_truth import Instruction, Scene
from gym_tabletop.tasks import TASKS, Request, Task

SPLITS = ("all", "train", "phrasing", "pair")


@dataclass(frozen=True)
class Assignment:
    """A task, what it asks for, and the words it is asked in. `split`: as in `Instruction`."""

    task: Task
    request: Request
    text: str
    split: str

    def instruction(
        self, scene: Scene, project: Callable[[tuple[float, float, float]], tuple[float, float]]
    ) -> Instruction:
        """This assignment as labels see it, with its places in the front image."""
        target = next(thing for thing in scene.objects if thing.name == self.request.target)
        return Instruction(
            self.task.name, self.text, self.request.target, self.request.goal,
            target.pixel, project(self.request.goal_position), self.split,
        )


def assignments(scene: Scene, families: tuple[str, ...]) -> Iterator[Assignment]:
    """Every sentence that asks for something possible in `scene`."""
    for family in families:
        task = TASKS[family]
        for request in task.requests(scene):
            for template in (*task.phrasings, *task.held_out_phrasings):
                split = "phrasing" if template in task.held_out_phrasings else "train"
                if request.target == task.held_out_pair:
                    split = "pair"
                yield Assignment(task, request, template.format(target=request.target, goal=request.goal), split)


def choose(rng: np.random.Generator, scene: Scene, families: tuple[str, ...], split: str) -> Assignment | None:
    """One assignment of `split`: first the family, then what is asked, then the words, each evenly; None if none."""
    found = [a for a in assignments(scene, families) if split in ("all", a.split)]
    for key in (lambda a: a.task.name, lambda a: a.request, lambda a: a.text):
        options = list(dict.fromkeys(key(a) for a in found))
        if not options:
            return None
        pick = options[int(rng.integers(len(options)))]
        found = [a for a in found if key(a) == pick]
    return found[0]
