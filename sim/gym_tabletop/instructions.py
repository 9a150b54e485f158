"""From what could be asked in a scene to the sentence that asks it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gym_tabletop.scene_truth import Instruction, Scene
from gym_tabletop.tasks import Request, Skill, Stage, Stages, Task

SPLITS = ("all", "train", "phrasing", "pair")


@dataclass(frozen=True)
class Assignment:
    """A task, what it asks for, and the words it is asked in. `split`: as in `Instruction`."""

    task: Task
    request: Request
    text: str
    split: str

    @property
    def stages(self) -> tuple[Stage, ...]:
        if self.request.stages:
            return self.request.stages
        assert isinstance(self.task, Skill)
        return (Stage(self.task, self.request),)

    def instruction(
        self, scene: Scene, project: Callable[[tuple[float, float, float]], tuple[float, float]], stage: int = 0
    ) -> Instruction:
        """This assignment as labels see it while at `stage`, with its places in the front image."""
        now = self.stages[stage]
        target = scene.find(now.request.target)
        return Instruction(
            now.skill.name, self.text, target.name, now.request.goal,
            target.pixel, project(now.request.goal_position), self.split, self.task.name,
            self.request.words,
        )  # fmt: skip


def assignments(scene: Scene, tasks: Mapping[str, Task]) -> Iterator[Assignment]:
    """Every sentence that asks for something possible in `scene`."""
    for task in tasks.values():
        if task.turning == scene.turning:
            for request in task.requests(scene):
                for text, split in task.sentences(request):
                    yield Assignment(task, request, text, split)


def half_done(scene: Scene, tasks: Mapping[str, Task]) -> Iterator[Assignment]:
    """Every sentence that asks for two things of which the first is done: at its second stage."""
    for task in tasks.values():
        if isinstance(task, Stages) and task.turning == scene.turning:
            for request in task.half_done(scene):
                for text, split in task.sentences(request):
                    yield Assignment(task, request, text, split)


def choose(rng: np.random.Generator, scene: Scene, tasks: Mapping[str, Task], split: str) -> Assignment | None:
    """One assignment of `split`: first the family, then what is asked, then the words, each evenly; None if none."""
    found = [a for a in assignments(scene, tasks) if split in ("all", a.split)]
    for key in (lambda a: a.task.name, lambda a: a.request, lambda a: a.text):
        options = list(dict.fromkeys(key(a) for a in found))
        if not options:
            return None
        pick = options[int(rng.integers(len(options)))]
        found = [a for a in found if key(a) == pick]
    return found[0]
