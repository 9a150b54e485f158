"""One S1 for several robots: shared eyes, thoughts and trunk, and for each robot its own way in and out.

What differs between robots is how long their states and actions are and what the entries mean, so each has a state
encoder and an action head of its own (per-embodiment projectors, GR00T N1, arXiv 2503.14734). A camera belongs to a
slot, such as `wrist`: the encoder of a slot serves the cameras of all robots that have one there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from vla.actions.fast import FastTokens
from vla.errors import UserError
from vla.s1.system import FastConfig, FastSystem


@dataclass(frozen=True)
class Body:
    """What S1 must know of a robot.

    cameras: slot (a camera of `FastConfig`) -> the robot's camera that looks there. A slot may stay empty: there are
    then no tokens of it, and nothing in their place. action_tokens: for head `fast`.
    """

    state_size: int
    action_size: int
    cameras: Mapping[str, str]
    action_tokens: FastTokens | None = None


class SharedFastSystem(nn.Module):
    """Weights of all robots. `of` gives a robot's S1: an ordinary one, whose eyes and trunk are also the others'.

    config: its cameras are the slots. Raises UserError for a camera in two slots or a slot there is not.
    """

    def __init__(self, config: FastConfig, bodies: Mapping[str, Body], latent_shape: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.latent_shape = config, latent_shape
        cameras = {robot: _in_slots(robot, body.cameras, config.cameras) for robot, body in bodies.items()}
        # A plain dict: their weights are those below, once each.
        self._systems = {
            robot: FastSystem(
                replace(config, cameras=tuple(cameras[robot].values())),
                *(body.state_size, body.action_size, latent_shape, body.action_tokens),
            )
            for robot, body in bodies.items()
        }
        self.states = nn.ModuleDict({robot: one.state for robot, one in self._systems.items()})
        self.heads = nn.ModuleDict({robot: one.head for robot, one in self._systems.items()})
        longest = max(self._systems.values(), key=lambda one: len(one.trunk.position))
        self.thought, self.trunk = longest.thought, longest.trunk
        self.cameras = nn.ModuleDict()
        for robot, one in self._systems.items():
            one.thought, one.trunk = self.thought, self.trunk
            for slot, camera in cameras[robot].items():
                if slot not in self.cameras:
                    self.cameras[slot] = one.cameras[camera]
                one.cameras[camera] = self.cameras[slot]

    def of(self, robot: str) -> FastSystem:
        return self._systems[robot]


def _in_slots(robot: str, cameras: Mapping[str, str], slots: tuple[str, ...]) -> dict[str, str]:
    """In the order of the slots."""
    unknown = [slot for slot in cameras if slot not in slots]
    if unknown:
        raise UserError(f"S1: robot {robot} has a camera in slot {unknown[0]}; the slots are {', '.join(slots)}")
    if len(set(cameras.values())) < len(cameras):
        raise UserError(f"S1: robot {robot} has one camera in two slots ({', '.join(cameras.values())})")
    if not cameras:
        raise UserError(f"S1: robot {robot} has a camera in none of the slots {', '.join(slots)}")
    return {slot: cameras[slot] for slot in slots if slot in cameras}
