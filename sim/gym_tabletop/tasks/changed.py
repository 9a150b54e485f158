"""A changed mind: in the middle of one thing, the robot is told to do another.

What is asked for, before and after, is what other families ask for; `TabletopEnv` changes it during the episode.
"""

from collections.abc import Iterator

from gym_tabletop.scene_truth import Scene
from gym_tabletop.tasks.base import Request, Skill, Stage, Task


class Changed(Task):
    name = "changed"

    def __init__(self, *skills: Skill) -> None:
        self.skills = skills

    def requests(self, scene: Scene) -> list[Request]:
        return [Request.made_of(Stage(skill, one)) for skill in self.skills for one in skill.requests(scene)]

    def sentences(self, request: Request) -> Iterator[tuple[str, str]]:
        (stage,) = request.stages
        return stage.skill.sentences(stage.request)
