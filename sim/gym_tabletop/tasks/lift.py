"""Lift an object off the table and hold it there."""

from gym_tabletop.scene_truth import Scene
from gym_tabletop.tasks.base import PhysicsState, Request, Skill

LIFT_HEIGHT, SUCCESS_RISE = 0.14, 0.08


class Lift(Skill):
    name = "lift"
    phrasings = (
        "lift the {target}",
        "lift up the {target}",
        "pick up the {target}",
        "pick the {target} up",
        "raise the {target}",
        "raise the {target} off the table",
        "grab the {target} and lift it",
    )
    held_out_phrasings = ("lift the {target} off the table", "grab the {target} and raise it")
    held_out_pair = "yellow cylinder"
    steps_to_hold = 4

    def requests(self, scene: Scene) -> list[Request]:
        return [Request(t.name, "", (t.position[0], t.position[1], LIFT_HEIGHT)) for t in scene.objects]

    def done(self, request: Request, scene: Scene, physics: PhysicsState) -> bool:
        rise = scene.find(request.target).position[2] - physics.start[request.target][2]
        return rise >= SUCCESS_RISE and request.target in physics.gripped
