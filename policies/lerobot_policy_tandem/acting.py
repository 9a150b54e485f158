"""Acting in LeRobot's environments with the runtime's own control loop: one per environment of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lerobot.utils.constants import OBS_STATE
from numpy.typing import NDArray
from torch import Tensor

from vla.errors import UserError
from vla.robots.base import Observation
from vla.runtime.loop import ControlLoop, Timing
from vla.spec import RobotSpec
from vla.tandem import TandemPolicy


class Seat:
    """Sits between LeRobot and a control loop: a body that senses what it is given and hands out its command."""

    def __init__(self, policy: TandemPolicy, timing: Timing, first: Observation) -> None:
        self.spec = policy.spec
        self._observation = first
        self._action: NDArray[np.float32] = np.zeros(self.spec.action_size, np.float32)
        self._loop = ControlLoop(policy, self, timing)
        self._instruction: str | None = None

    def observe(self) -> Observation:
        return self._observation

    def command(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        self._action = action
        return action

    def step(self, observation: Observation, instruction: str) -> NDArray[np.float32]:
        """The action (A,) of this control period, in robot units."""
        self._observation = observation
        if instruction != self._instruction:
            self._loop.instruct(instruction)
            self._instruction = instruction
        self._loop.step()
        return self._action


def observations(spec: RobotSpec, batch: dict[str, Any]) -> list[tuple[Observation, str]]:
    """What every environment of the batch senses, and what it is told; UserError if something is missing."""
    for key in (*(camera.key for camera in spec.cameras), OBS_STATE, "task"):
        if key not in batch:
            raise UserError(f"policy: the observation has no {key}, which robot {spec.name} needs")
    tasks = batch["task"]
    if isinstance(tasks, str):
        tasks = [tasks]
    state = batch[OBS_STATE].float().cpu().numpy()
    images = {camera.name: pixels(batch[camera.key]).cpu().numpy() for camera in spec.cameras}
    return [
        (Observation({name: views[i] for name, views in images.items()}, state[i], 0.0), task)
        for i, task in enumerate(tasks)
    ]


def pixels(images: Tensor) -> Tensor:
    """LeRobot's images (..., 3, H, W), floats in [0, 1], as the uint8 (..., H, W, 3) they were made of."""
    whole = images if images.dtype == torch.uint8 else (images * 255).round().to(torch.uint8)
    return whole.movedim(-3, -1).contiguous()
