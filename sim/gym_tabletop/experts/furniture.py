"""Pressing buttons, and opening and closing the drawer."""

import numpy as np

from gym_tabletop.experts.base import CLOSED, OPEN, Aim, Expert
from gym_tabletop.scene_truth import Scene
from gym_tabletop.tasks.base import Request, distance

PULL_HEIGHT = 0.036
SHUT_FROM = 0.05
"""How far before the drawer's knob the closed gripper comes down to push (m)."""


def press(hand: Expert, scene: Scene, request: Request) -> Aim:
    button = scene.find(request.target)
    reach = f"reach the {button.name}"
    if clear := hand.rise_clear(scene, reach):
        return clear
    place = np.array(button.position)
    bottom = np.array([*place[:2], place[2] - 0.01])
    near = distance(hand.tool, place) < 0.015
    goal = hand.descend(bottom, place[2] + hand.style.hover, slope=3)
    return Aim(goal, 0.0, CLOSED, f"press the {button.name}" if near else reach, 0.5 if near else 0.1)


def open_drawer(hand: Expert, scene: Scene, request: Request) -> Aim:
    knob = scene.find(request.target)
    tool, place = hand.tool, np.array([*knob.position[:2], PULL_HEIGHT])
    if scene.held == knob.name:
        assert scene.opened is not None
        goal = tool + np.array([-0.06, 0, 0])
        return Aim(np.array([goal[0], place[1], place[2]]), 0.0, CLOSED, "pull the drawer open", 0.5 + scene.opened / 2)
    if distance(tool, place) < 0.012 and tool[2] - place[2] < 0.012:
        return Aim(place, 0.0, CLOSED, "grasp the knob", 0.4)
    return Aim(hand.descend(place, place[2] + hand.style.hover, slope=4), 0.0, OPEN, "reach the drawer", 0.1)


def close_drawer(hand: Expert, scene: Scene, request: Request) -> Aim:
    knob = scene.find(request.target)
    if clear := hand.rise_clear(scene, "reach the drawer"):
        return clear
    tool, (x, y, _) = hand.tool, knob.position
    before = x - tool[0]
    if before > 0.01 and abs(tool[1] - y) < 0.014 and tool[2] < PULL_HEIGHT + 0.015:
        assert scene.opened is not None
        goal = np.array([tool[0] + 0.06, y, PULL_HEIGHT])
        return Aim(goal, 0.0, CLOSED, "push the drawer shut", 0.4 + 0.6 * (1 - scene.opened))
    spot = np.array([x - SHUT_FROM, y, PULL_HEIGHT])
    return Aim(hand.descend(spot, hand.style.hover, slope=2.5), 0.0, CLOSED, "reach the drawer", 0.1)
