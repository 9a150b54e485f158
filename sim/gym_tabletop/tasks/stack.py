"""Set one object on another."""

import numpy as np

from gym_tabletop.scene_truth import Scene, Thing
from gym_tabletop.tasks.base import PhysicsState, Request, Skill, distance

FLAT = ("cube", "cylinder")
"""Shapes that stand on others and that others stand on."""


def on_top(thing: Thing, base: Thing) -> bool:
    """It stands on the other, its middle well within."""
    apart = thing.position[2] - base.position[2]
    return distance(thing.position, base.position) < 0.02 and 0.8 < apart / (thing.size + base.size) < 1.4


class Stack(Skill):
    name = "stack"
    phrasings = (
        "stack the {target} on the {goal}",
        "put the {target} on the {goal}",
        "put the {target} on top of the {goal}",
        "set the {target} on the {goal}",
        "place the {target} on top of the {goal}",
    )
    held_out_phrasings = ("stack the {target} on top of the {goal}", "place the {target} on the {goal}")
    held_out_pair = "red cylinder"
    steps_to_hold = 3

    def requests(self, scene: Scene) -> list[Request]:
        flat = [thing for thing in scene.objects if thing.shape in FLAT]
        return [
            Request(thing.name, base.name, tuple(np.add(base.position, (0, 0, base.size + thing.size))))
            for thing in flat
            for base in flat
            if thing is not base and not on_top(thing, base) and _free(base, scene)
        ]

    def done(self, request: Request, scene: Scene, physics: PhysicsState) -> bool:
        at_rest = physics.speed[request.target] < 0.05 and request.target not in physics.gripped
        return at_rest and on_top(scene.find(request.target), scene.find(request.goal))


def _free(base: Thing, scene: Scene) -> bool:
    """Nothing is on it, and it is in no tray, whose walls would be in the way."""
    in_tray = any(distance(base.position, tray.position) < 0.08 for tray in scene.trays)
    return not in_tray and not any(on_top(thing, base) for thing in scene.objects)
