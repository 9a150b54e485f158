"""Experts that take hold of an object: to lift it, or to put it in a tray."""

import numpy as np

from gym_tabletop.experts.base import CLOSED, OPEN, Array, Expert
from gym_tabletop.scene_truth import Scene, Thing
from gym_tabletop.tasks.base import distance, find
from gym_tabletop.tasks.lift import LIFT_HEIGHT
from gym_tabletop.tasks.place import inside

ALIGNED, AT_GRASP = 0.014, 0.014
"""How close above, and how close in height, the tool must be before it goes on (m)."""


class PickExpert(Expert):
    """Reaches for the target from above and grasps it."""

    def pick(self, thing: Thing) -> tuple[Array, float, float]:
        """Move on towards holding `thing`."""
        tool, place = self.tool, np.array(thing.position)
        away, yaw = distance(tool, place), self.yaw_for(thing)
        above = tool[2] - place[2]
        if away < ALIGNED and above < AT_GRASP:
            self._say(f"grasp the {thing.name}", 0.4)
            return place, yaw, CLOSED
        if away < ALIGNED or (away < 2 * ALIGNED and above < 0.045):
            self._say(f"reach the {thing.name}", 0.3)
            return place, yaw, OPEN
        self._say(f"reach the {thing.name}", max(0.0, 0.25 - away))
        # Come down while closing in: a cone over the object, so that nothing beside it is swept along.
        height = place[2] + max(self.style.hover - 0.02, min(self.style.hover, away))
        if tool[2] < height - 0.03 and away > 0.03:
            return np.array([tool[0], tool[1], height]), yaw, OPEN
        return np.append(place[:2], height), yaw, OPEN

    def holds(self, scene: Scene, thing: Thing) -> bool:
        """Both fingers are on it, and they are still: it will come along."""
        still = float(np.abs(self.env.data.qvel[7:9]).max()) < 0.02
        return scene.held == thing.name and still

    def _say(self, subtask: str, progress: float) -> None:
        self.subtask, self.progress = subtask, progress


class LiftExpert(PickExpert):
    def decide(self, scene: Scene) -> tuple[Array, float, float]:
        thing = self.target(scene)
        if not self.holds(scene, thing):
            return self.pick(thing)
        self._say(f"lift the {thing.name}", 0.5 + min(0.5, 5 * max(0.0, thing.position[2] - 0.02)))
        return np.array([*self.tool[:2], LIFT_HEIGHT + 0.02]), self.yaw_for(thing), CLOSED


class PlaceExpert(PickExpert):
    def decide(self, scene: Scene) -> tuple[Array, float, float]:
        thing, tray = self.target(scene), find(scene, self.request.goal)
        tool, yaw = self.tool, self.yaw_for(thing)
        if inside(thing, tray):
            self._say(f"let go of the {thing.name}", 0.95)
            return (np.array([*tool[:2], 0.16]) if self.env.gripper_opening > 0.8 else tool), yaw, OPEN
        if not self.holds(scene, thing):
            return self.pick(thing)
        away = distance(thing.position, tray.position)
        if away < 0.022:
            self._say(f"lower it into the {tray.name}", 0.85)
            return np.array([tray.position[0], tray.position[1], 0.04]), yaw, CLOSED
        if tool[2] < self.style.carry - 0.05:
            self._say(f"lift the {thing.name}", 0.5)
            return np.array([tool[0], tool[1], self.style.carry]), yaw, CLOSED
        self._say(f"carry it to the {tray.name}", 0.8 - min(0.25, away))
        return np.array([tray.position[0], tray.position[1], self.style.carry]), yaw, CLOSED
