"""Which instruction of a scene an episode follows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vla.robots.base import SimulatedRobot


def current(robot: SimulatedRobot) -> Any | None:
    """The instruction the scene came with, with its target, goal and split; None if the environment does not say."""
    return next((one for one in robot.instructions() if one.text == robot.instruction), None)


def split_of(text: str, possible: Sequence[Any]) -> str:
    """The split of these words, where `possible` is what can be asked; "train" if they are not among it."""
    return next((one.split for one in possible if one.text == text), "train")


def swap_target(robot: SimulatedRobot, seed: int) -> str:
    """The text that asks the same of another object of this scene, in the same words if they exist for it.

    Where the scene has no room for that (pushing needs a free lane), another family's task with another object. The
    choice depends on the scene and the seed alone. If every object but one is out of the question, the original.
    """
    given = current(robot)
    if given is None:
        return robot.instruction
    others = [one for one in robot.instructions() if one.target != given.target]
    same_words = given.text.replace(given.target, "{}")
    tests: tuple[Callable[[Any], bool], ...] = (
        lambda one: one.family == given.family,
        lambda one: one.split == given.split,
        lambda one: one.goal == given.goal,
        lambda one: one.text.replace(one.target, "{}") == same_words,
    )
    for test in tests:
        others = [one for one in others if test(one)] or others
    if not others:
        return robot.instruction
    return others[int(np.random.default_rng([seed, len(others)]).integers(len(others)))].text


def stranger(robot: SimulatedRobot, seed: int) -> str | None:
    """Words for another task, where a scene judges only its own: who does as it is told fails there.

    None where a swap can ask for another object instead, and be judged by it.
    """
    others = robot.others()
    return others[int(np.random.default_rng([seed, len(others)]).integers(len(others)))] if others else None


def paraphrase(robot: SimulatedRobot, seed: int) -> str:
    """The same in words that no demonstration uses; it depends on scene and seed alone. As it is if there are none."""
    texts = robot.paraphrases()
    return texts[int(np.random.default_rng([seed, len(texts)]).integers(len(texts)))] if texts else robot.instruction


def tour(robot: SimulatedRobot, seed: int, index: int) -> str:
    """A text of the family whose turn it is: episodes 0, 1, 2, ... go through the families of the scene."""
    possible = robot.instructions()
    families = list(dict.fromkeys(one.family for one in possible))
    family = families[index % len(families)]
    texts = [one.text for one in possible if one.family == family]
    return texts[int(np.random.default_rng([seed, index]).integers(len(texts)))]
