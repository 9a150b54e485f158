"""Taking hold of an object: to lift it, to put it in a tray, to set it on another."""

import numpy as np

from gym_tabletop.experts.base import CLOSED, OPEN, Aim, Array, Expert
from gym_tabletop.layout import TRAY_FLOOR
from gym_tabletop.scene_truth import Scene, Thing
from gym_tabletop.tasks.base import Request, distance
from gym_tabletop.tasks.lift import LIFT_HEIGHT
from gym_tabletop.tasks.place import inside
from gym_tabletop.tasks.stack import on_top

ALIGNED, AT_GRASP = 0.015, 0.014
"""How close, on the table and in height, the tool must be before the fingers close (m)."""


def pick(hand: Expert, thing: Thing) -> Aim:
    """Reach for `thing` from above and grasp it."""
    tool, place = hand.tool, np.array(thing.position)
    away, lead = distance(tool, place), hand.lead_of(thing)
    yaw = hand.yaw_for(thing)
    if away < ALIGNED and tool[2] - place[2] < AT_GRASP:
        return Aim(place + lead, yaw, CLOSED, f"grasp the {thing.name}", 0.4)
    goal = hand.descend(place, place[2] + hand.style.hover, slope=4, lead=lead)
    return Aim(goal, yaw, OPEN, f"reach the {thing.name}", max(0.0, 0.3 - away))


def lift(hand: Expert, scene: Scene, request: Request) -> Aim:
    thing = scene.find(request.target)
    if scene.held != thing.name:
        return pick(hand, thing)
    height = thing.position[2] - hand.env.start[thing.name][2]
    goal = np.array([*hand.tool[:2], LIFT_HEIGHT + 0.02])
    return Aim(goal, hand.yaw_for(thing), CLOSED, f"lift the {thing.name}", 0.5 + np.clip(5 * height, 0, 0.5))


def place(hand: Expert, scene: Scene, request: Request) -> Aim:
    thing, tray = scene.find(request.target), scene.find(request.goal)
    if inside(thing, tray):
        return _let_go(hand, thing)
    if scene.held != thing.name:
        return pick(hand, thing)
    floor = np.array([*tray.position[:2], TRAY_FLOOR + thing.size + 0.01])
    return _carry(hand, thing, floor, 0.022, f"lower it into the {tray.name}")


def stack(hand: Expert, scene: Scene, request: Request) -> Aim:
    thing, base = scene.find(request.target), scene.find(request.goal)
    apart = thing.position[2] - base.position[2]
    if on_top(thing, base) and apart < thing.size * _tall(thing) + base.size * _tall(base) + 0.006:
        return _let_go(hand, thing)
    if scene.held != thing.name:
        return pick(hand, thing)
    top = np.array(base.position) + np.array([0, 0, base.size * _tall(base) + thing.size * _tall(thing)])
    return _carry(hand, thing, top, 0.010, f"lower it onto the {base.name}")


def _tall(thing: Thing) -> float:
    return 1.15 if thing.shape == "cylinder" else 1.0


def _let_go(hand: Expert, thing: Thing) -> Aim:
    goal = hand.tool
    if hand.env.gripper_opening > 0.8:
        goal[2] = max(goal[2], thing.position[2] + 0.13)
    return Aim(goal, hand.yaw_for(thing), OPEN, f"let go of the {thing.name}", 0.95)


def _carry(hand: Expert, thing: Thing, to: Array, near: float, last: str) -> Aim:
    """Lift a held object, carry it and lower it until it is at `to` (3,)."""
    over = to + hand.tool - np.array(thing.position)  # wherever in the hand it is
    away = distance(hand.tool, over)
    carry = over[2] + hand.style.carry - 0.04
    if away < near:
        subtask, progress = last, 0.85
    elif hand.tool[2] < carry - 0.05:
        subtask, progress = f"lift the {thing.name}", 0.5
    else:
        subtask, progress = f"carry the {thing.name}", 0.8 - min(0.25, away)
    return Aim(hand.descend(over, carry, slope=4), hand.yaw_for(thing), CLOSED, subtask, progress)
