"""Put an object into a tray and let go of it."""

import numpy as np

from gym_tabletop.layout import TRAY_HALF
from gym_tabletop.scene_truth import Scene, Thing
from gym_tabletop.tasks.base import PhysicsState, Request, Skill


def inside(thing: Thing, tray: Thing) -> bool:
    """The object's centre is over the tray's floor and low enough to stand on it."""
    offset = np.abs(np.array(thing.position) - np.array(tray.position))
    return bool(np.all(offset[:2] < TRAY_HALF - 0.01) and thing.position[2] < 0.05)


class Place(Skill):
    name = "place"
    phrasings = (
        "put the {target} in the {goal}",
        "put the {target} into the {goal}",
        "place the {target} in the {goal}",
        "drop the {target} into the {goal}",
        "move the {target} into the {goal}",
        "pick up the {target} and put it in the {goal}",
        "pick up the {target} and drop it in the {goal}",
    )
    held_out_phrasings = ("place the {target} into the {goal}", "pick up the {target} and place it in the {goal}")
    held_out_pair = "blue cube"
    steps_to_hold = 3

    def requests(self, scene: Scene) -> list[Request]:
        free = [tray for tray in scene.trays if not any(inside(thing, tray) for thing in scene.objects)]
        return [
            Request(thing.name, tray.name, tray.position)
            for thing in scene.objects
            for tray in free
            if not any(inside(thing, any_tray) for any_tray in scene.trays)
        ]

    def finished(self, scene: Scene) -> list[Request]:
        return [
            Request(thing.name, tray.name, tray.position)
            for thing in scene.objects
            for tray in scene.trays
            if inside(thing, tray) and scene.held != thing.name
        ]

    def done(self, request: Request, scene: Scene, physics: PhysicsState) -> bool:
        thing, tray = scene.find(request.target), scene.find(request.goal)
        at_rest = physics.speed[request.target] < 0.1 and request.target not in physics.gripped
        return at_rest and inside(thing, tray)
