"""The task families. To add one: a class beside these, a line here, an expert."""

from gym_tabletop.tasks.base import PhysicsState, Request, Task
from gym_tabletop.tasks.lift import Lift
from gym_tabletop.tasks.place import Place
from gym_tabletop.tasks.push import Push

TASKS: dict[str, Task] = {task.name: task for task in (Push(), Lift(), Place())}

__all__ = ["TASKS", "PhysicsState", "Request", "Task"]
