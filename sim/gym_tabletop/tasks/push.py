"""Push an object to the left or the right, as seen in the front image."""

import numpy as np

from gym_tabletop.scene_truth import Scene, Thing
from gym_tabletop.tasks.base import WORKED_AREA_HIGH, WORKED_AREA_LOW, PhysicsState, Request, Skill, distance

SIDES = {"left": -1.0, "right": 1.0}
"""Direction of each side along the robot's y axis: the front camera looks back at the robot."""

PUSH_DISTANCE, SUCCESS_DISTANCE, SIDEWAYS_TOLERANCE = 0.13, 0.10, 0.07
RUN_UP = 0.075
"""How far behind the object the gripper comes down before it pushes (m)."""


class Push(Skill):
    name = "push"
    phrasings = (
        "push the {target} to the {goal}",
        "push the {target} {goal}",
        "slide the {target} to the {goal}",
        "slide the {target} over to the {goal} side",
        "move the {target} to the {goal} side",
        "shove the {target} to the {goal}",
        "nudge the {target} over to the {goal}",
    )
    held_out_phrasings = ("push the {target} over to the {goal} side", "shove the {target} over to the {goal}")
    held_out_pair = "green ball"

    def requests(self, scene: Scene) -> list[Request]:
        found = []
        for thing in scene.objects:
            for side, sign in SIDES.items():
                x, y, z = thing.position
                goal = (x, y + sign * PUSH_DISTANCE, z)
                if self._has_room(scene, thing, sign, goal):
                    found.append(Request(thing.name, side, goal))
        return found

    def done(self, request: Request, scene: Scene, physics: PhysicsState) -> bool:
        moved = np.array(scene.find(request.target).position) - physics.start[request.target]
        along = SIDES[request.goal] * moved[1]
        return bool(along >= SUCCESS_DISTANCE and abs(moved[0]) <= SIDEWAYS_TOLERANCE and abs(moved[2]) < 0.02)

    @staticmethod
    def _has_room(scene: Scene, thing: Thing, sign: float, goal: tuple[float, float, float]) -> bool:
        """The lane from the run-up to the goal is free and on the worked area."""
        x, y, _ = thing.position
        behind = (x, y - sign * RUN_UP)
        for place in (behind, goal[:2]):
            if np.any(np.array(place) < WORKED_AREA_LOW) or np.any(np.array(place) > WORKED_AREA_HIGH):
                return False
        others = [other for other in scene.things if other.name != thing.name and other.kind != "button"]
        low, high = sorted((behind[1], goal[1]))
        for other in others:
            nearest = (x, float(np.clip(other.position[1], low, high)))
            if distance(other.position, nearest) < (0.10 if other.kind == "tray" else 0.062):
                return False
        return True
