"""Pushing an object sideways with the closed gripper, from behind."""

import numpy as np

from gym_tabletop.experts.base import CLOSED, Aim, Expert
from gym_tabletop.scene_truth import Scene
from gym_tabletop.tasks.base import Request, distance
from gym_tabletop.tasks.push import PUSH_DISTANCE, RUN_UP, SIDES

PUSH_HEIGHT = 0.024
LANE = 0.012
"""How far off the object's line the gripper may be and still push (m)."""


def push(hand: Expert, scene: Scene, request: Request) -> Aim:
    thing, sign, tool = scene.find(request.target), SIDES[request.goal], hand.tool
    reach = f"reach behind the {thing.name}"
    if clear := hand.rise_clear(scene, reach) if hand.env.gripper_opening > 0.3 else None:
        return clear
    x, y, _ = thing.position
    behind = sign * (y - tool[1])  # positive while the tool is on the side it should push from
    off_line = abs(tool[0] - x)
    if behind > 0.03 and off_line < (LANE if behind > 0.055 else 2 * LANE) and tool[2] < PUSH_HEIGHT + 0.015:
        done = sign * (y - hand.env.start[thing.name][1]) / PUSH_DISTANCE
        goal = np.array([x, tool[1] + sign * 0.06, PUSH_HEIGHT])
        return Aim(goal, 0.0, CLOSED, f"push the {thing.name}", 0.4 + 0.6 * float(np.clip(done, 0, 1)))
    spot = np.array([x, y - sign * RUN_UP, PUSH_HEIGHT])
    progress = 0.3 if distance(tool, spot) < 0.03 else 0.1
    return Aim(hand.descend(spot, hand.style.hover, slope=2.5), 0.0, CLOSED, reach, progress)
