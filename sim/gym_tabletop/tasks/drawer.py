"""Open or close the drawer."""

from gym_tabletop.palette import DRAWER
from gym_tabletop.scene import DRAWER_TRAVEL
from gym_tabletop.scene_truth import Scene
from gym_tabletop.tasks.base import PhysicsState, Request, Skill

OPEN_FROM, CLOSED_TO = 0.75, 0.12
"""How far out of its travel it counts as open, and as closed."""


class OpenDrawer(Skill):
    name = "open"
    phrasings = ("open the {target}", "pull the {target} open", "pull out the {target}", "slide the {target} open")
    held_out_phrasings = ("pull the {target} out", "slide out the {target}")
    steps_to_hold = 2

    def requests(self, scene: Scene) -> list[Request]:
        return _drawer(scene, -DRAWER_TRAVEL) if _is_closed(scene) else []

    def finished(self, scene: Scene) -> list[Request]:
        return _drawer(scene, 0) if _is_open(scene) else []

    def done(self, request: Request, scene: Scene, physics: PhysicsState) -> bool:
        return _is_open(scene)


class CloseDrawer(Skill):
    name = "close"
    phrasings = ("close the {target}", "shut the {target}", "push the {target} shut", "slide the {target} shut")
    held_out_phrasings = ("push the {target} closed", "slide the {target} closed")
    steps_to_hold = 2

    def requests(self, scene: Scene) -> list[Request]:
        return _drawer(scene, DRAWER_TRAVEL) if _is_open(scene) else []

    def finished(self, scene: Scene) -> list[Request]:
        return _drawer(scene, 0) if _is_closed(scene) else []

    def done(self, request: Request, scene: Scene, physics: PhysicsState) -> bool:
        return _is_closed(scene)


def _is_open(scene: Scene) -> bool:
    return scene.opened is not None and scene.opened >= OPEN_FROM


def _is_closed(scene: Scene) -> bool:
    return scene.opened is not None and scene.opened <= CLOSED_TO


def _drawer(scene: Scene, slide: float) -> list[Request]:
    x, y, z = scene.find(DRAWER).position
    return [Request(DRAWER, "", (x + slide, y, z))]
