"""The task families. To add one: a class beside these, a line here, and an expert if it is a new skill."""

from gym_tabletop.tasks.base import PhysicsState, Request, Skill, Stage, Task
from gym_tabletop.tasks.changed import Changed
from gym_tabletop.tasks.drawer import CloseDrawer, OpenDrawer
from gym_tabletop.tasks.lift import Lift
from gym_tabletop.tasks.moving import Moving
from gym_tabletop.tasks.place import Place
from gym_tabletop.tasks.press import Press
from gym_tabletop.tasks.push import Push
from gym_tabletop.tasks.relation import Relation
from gym_tabletop.tasks.stack import Stack
from gym_tabletop.tasks.stages import Stages

_push, _lift, _place, _press, _open, _close = Push(), Lift(), Place(), Press(), OpenDrawer(), CloseDrawer()

TASKS: dict[str, Task] = {task.name: task for task in (_push, _lift, _place)}
"""What a plain table offers."""

SUITE: dict[str, Task] = TASKS | {
    task.name: task
    for task in (
        _press,
        _open,
        _close,
        Stack(),
        Moving(),
        Changed(_push, _lift, _place, _press),
        Stages((_place, _open, _close), (_press, _lift, _place)),
        Relation(_push, _lift, _place),
    )
}
"""What the furnished one does, beside that."""

__all__ = ["SUITE", "TASKS", "PhysicsState", "Request", "Skill", "Stage", "Stages", "Task"]
