"""Pushes an object sideways with the closed gripper, from behind."""

import numpy as np

from gym_tabletop.experts.base import CLOSED, Array, Expert
from gym_tabletop.scene_truth import Scene
from gym_tabletop.tasks.push import PUSH_DISTANCE, RUN_UP, SIDES

PUSH_HEIGHT = 0.024
LANE = 0.012
"""How far off the object's line the gripper may be and still push (m)."""


class PushExpert(Expert):
    def decide(self, scene: Scene) -> tuple[Array, float, float]:
        thing, sign, tool = self.target(scene), SIDES[self.request.goal], self.tool
        x, y, _ = thing.position
        behind = sign * (y - tool[1])  # positive while the tool is on the side it should push from
        off_line = abs(tool[0] - x)
        done = sign * (y - self.start_y) / PUSH_DISTANCE
        if behind > 0.03 and off_line < (LANE if behind > 0.055 else 2 * LANE) and tool[2] < PUSH_HEIGHT + 0.015:
            self.subtask, self.progress = f"push the {thing.name}", 0.4 + 0.6 * float(np.clip(done, 0, 1))
            return np.array([x, tool[1] + sign * 0.06, PUSH_HEIGHT]), 0.0, CLOSED
        self.subtask, self.progress = f"reach behind the {thing.name}", 0.1
        spot = np.array([x, y - sign * RUN_UP, PUSH_HEIGHT])
        away = float(np.hypot(tool[0] - spot[0], tool[1] - spot[1]))
        if away < 0.016 or (away < 0.03 and tool[2] < 0.06):
            self.progress = 0.3
            return spot, 0.0, CLOSED
        height = self.style.hover
        if tool[2] < height - 0.03 and away > 0.03:
            return np.array([tool[0], tool[1], height]), 0.0, CLOSED
        return np.array([spot[0], spot[1], height]), 0.0, CLOSED

    @property
    def start_y(self) -> float:
        return float(self.env.physics().start[self.request.target][1])
