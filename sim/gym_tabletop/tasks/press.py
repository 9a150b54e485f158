"""Press a button of the panel."""

from gym_tabletop.scene_truth import Scene
from gym_tabletop.tasks.base import PhysicsState, Request, Skill


class Press(Skill):
    name = "press"
    phrasings = (
        "press the {target}",
        "push the {target} down",
        "hit the {target}",
        "touch the {target}",
        "press down on the {target}",
    )
    held_out_phrasings = ("push down the {target}", "press down the {target}")
    held_out_pair = "yellow button"

    def requests(self, scene: Scene) -> list[Request]:
        return [Request(button.name, "", button.position) for button in scene.buttons]

    def done(self, request: Request, scene: Scene, physics: PhysicsState) -> bool:
        return physics.pressed == {request.target}
