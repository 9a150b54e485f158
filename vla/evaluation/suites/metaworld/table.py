"""The task table (tasks.yaml): what is said in each task of MetaWorld, and what there is to see."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vla.robots.benchmarks import METAWORLD_GROUPS, METAWORLD_MT10, METAWORLD_MT50
from vla.strict import parse, read_yaml

SUITES = {"mt50": METAWORLD_MT50, "mt10": METAWORLD_MT10}
SPLITS = ("all", "train", "phrasing")
TABLE = Path(__file__).with_name("tasks.yaml")


@dataclass(frozen=True)
class Task:
    """Sentences, and the things in the scene: name -> MuJoCo body it hangs on ("" for the goal's mark)."""

    says: str
    train: tuple[str, ...]
    held_out: tuple[str, ...]
    target: str
    goal: str
    things: dict

    def sentences(self, split: str) -> tuple[str, ...]:
        """all: the one that published policies are evaluated with. train: it and its variants. phrasing: held out."""
        return {"all": (self.says,), "train": (self.says, *self.train), "phrasing": self.held_out}[split]


@cache
def task_table() -> Mapping[str, Task]:
    """Task name, such as "push-v3" -> its entry; UserError if the file is damaged."""
    rows = read_yaml(TABLE, "MetaWorld's task table")
    return {name: parse(Task, row, f"{TABLE.name}: {name}") for name, row in rows.items()}


@cache
def thing_names() -> tuple[str, ...]:
    """Everything that can be told apart in some task, sorted."""
    return tuple(sorted({thing for task in task_table().values() for thing in task.things}))


def tasks_of(suite: str, task: str) -> tuple[str, ...]:
    """The tasks that `task` ("all", a group or a name) means in a suite."""
    if task == "all":
        return SUITES[suite]
    return tuple(name for name in SUITES[suite] if name in METAWORLD_GROUPS.get(task, (task,)))
