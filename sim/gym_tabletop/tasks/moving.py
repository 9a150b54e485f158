"""Lift an object that is carried round by the turning table."""

from gym_tabletop.scene_truth import Scene
from gym_tabletop.tasks.base import Request, Stage, Task
from gym_tabletop.tasks.lift import Lift


class Moving(Task):
    name = "moving"
    phrasings, held_out_phrasings = Lift.phrasings, Lift.held_out_phrasings
    held_out_pair = "blue ball"
    turning = True

    def requests(self, scene: Scene) -> list[Request]:
        return [Request.made_of(Stage(_LIFT, one)) for one in _LIFT.requests(scene)]


_LIFT = Lift()
