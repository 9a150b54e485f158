"""Two things, one after the other."""

from collections.abc import Iterator

from gym_tabletop.scene_truth import Scene
from gym_tabletop.tasks.base import Request, Skill, Stage, Task, say


class Stages(Task):
    """firsts: skills whose end can be seen in an image, so that it tells which stage it is. thens: what may follow.

    Order counts: what is done of the second before the first is done has to be undone and done anew, and buttons
    pressed by then, the right one or another, are forgotten.
    """

    name = "stages"
    phrasings = (
        "{first}, then {then}",
        "first {first}, then {then}",
        "{first} and then {then}",
        "{first}, afterwards {then}",
        "{first}, and after that {then}",
    )
    held_out_phrasings = ("first {first}, afterwards {then}", "{first}, after that {then}")

    def __init__(self, firsts: tuple[Skill, ...], thens: tuple[Skill, ...]) -> None:
        self.firsts, self.thens = firsts, thens

    def requests(self, scene: Scene) -> list[Request]:
        return [
            pair for first in self.firsts for one in first.requests(scene) for pair in self._then(first, one, scene)
        ]

    def half_done(self, scene: Scene) -> list[Request]:
        """What can be asked whose first part an image shows to be done."""
        return [
            pair for first in self.firsts for one in first.finished(scene) for pair in self._then(first, one, scene)
        ]

    def _then(self, first: Skill, one: Request, scene: Scene) -> list[Request]:
        return [
            Request.made_of(Stage(first, one), Stage(then, two))
            for then in self.thens
            for two in then.requests(scene)
            if two.target not in (one.target, one.goal) and not (one.goal and one.goal == two.goal)
        ]

    def sentences(self, request: Request) -> Iterator[tuple[str, str]]:
        one, two = (_short(stage) for stage in request.stages)
        held_out = any(stage.request.target == stage.skill.held_out_pair for stage in request.stages)
        return say(self.phrasings, self.held_out_phrasings, held_out, first=one, then=two)


def _short(stage: Stage) -> str:
    """The first way to say it."""
    return next(stage.skill.sentences(stage.request))[0]
