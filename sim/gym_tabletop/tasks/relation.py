"""Familiar things to do to an object that is described by where or how large it is, not by its name."""

from collections.abc import Iterator

from gym_tabletop.scene_truth import Scene, Thing
from gym_tabletop.tasks.base import Request, Skill, Stage, Task, say
from gym_tabletop.tasks.place import inside

SIDE_MARGIN = 0.05
"""How far apart in the front image things are of which one is left of the other (fraction of its width)."""
SIZE_MARGIN = 0.005
"""By how much the smallest and the largest differ from the next (m, half the width): more than a pixel of 96."""


class Relation(Task):
    name = "relation"
    held_out_pair = "green cube"

    def __init__(self, *skills: Skill) -> None:
        self.skills = skills

    def requests(self, scene: Scene) -> list[Request]:
        described = {thing.name: list(descriptions(thing, scene)) for thing in scene.objects}
        return [
            Request.made_of(Stage(skill, one), words=words)
            for skill in self.skills
            for one in skill.requests(scene)
            for words in described[one.target]
        ]

    def sentences(self, request: Request) -> Iterator[tuple[str, str]]:
        (stage,) = request.stages
        held_out = request.target == self.held_out_pair
        skill = stage.skill
        # The last two are held out; some skills' many ways to say it would crowd out the descriptions.
        words = {"target": request.words, "goal": request.goal}
        return say(skill.phrasings[:3], skill.held_out_phrasings, held_out, **words)


def descriptions(thing: Thing, scene: Scene) -> Iterator[str]:
    """Every way to single out an object without its colour and shape together."""
    others = [other for other in scene.objects if other is not thing]
    if all(other.size - thing.size > SIZE_MARGIN for other in others):
        yield "smallest object"
    if all(thing.size - other.size > SIZE_MARGIN for other in others):
        yield "largest object"
    for tray in scene.trays:
        if inside(thing, tray) and not any(inside(other, tray) for other in others):
            yield f"object in the {tray.name}"
    alike = [other for other in others if other.shape == thing.shape]
    for anchor in (*others, *scene.trays):
        if anchor in alike:
            continue
        for side, sign in (("left", -1), ("right", 1)):
            if _beside(thing, anchor, sign) > SIDE_MARGIN and all(
                _beside(other, anchor, sign) < -SIDE_MARGIN for other in alike
            ):
                yield f"{thing.shape} {side} of the {anchor.name}"


def _beside(thing: Thing, anchor: Thing, sign: int) -> float:
    """How far `thing` is on that side of `anchor`, in widths of the front image."""
    return sign * (thing.pixel[0] - anchor.pixel[0])
