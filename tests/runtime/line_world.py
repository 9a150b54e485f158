"""A one-dimensional robot and a policy for it: everything the control loop does with them can be worked out by hand."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch

from vla.robots.base import Observation
from vla.s2.thought import Thought
from vla.spec import ActionSpec, Camera, Field, RobotSpec

SPEC = RobotSpec(
    name="line",
    rate_hz=20,
    cameras=(Camera("front", 2, 2),),
    state=(Field("position", 1, "m"), Field("gripper", 1, "1")),
    action=ActionSpec(
        "ee_delta", (Field("ee_translation", 1, "m", "base"), Field("gripper", 1, "1")), "1 = open, 0 = closed"
    ),
)


class LineRobot:
    """Its front image shows the number of the control step; it notes every command."""

    def __init__(self, spec: RobotSpec = SPEC) -> None:
        self.spec = spec
        self.commands: list[np.ndarray] = []

    def connect(self) -> None: ...

    def close(self) -> None: ...

    def reset(self, seed: int | None = None) -> Observation:
        self.commands = []
        return self.observe()

    def observe(self) -> Observation:
        step = len(self.commands)
        image = np.full((2, 2, 3), step % 256, np.uint8)
        return Observation({"front": image}, np.array([0.0, 0.7], np.float32), step / self.spec.rate_hz)

    def command(self, action: np.ndarray) -> np.ndarray:
        self.commands.append(np.array(action))
        return action

    @property
    def moves(self) -> list[float]:
        return [float(command[0]) for command in self.commands]


@dataclass
class LinePolicy:
    """Row i of the chunk it computes at step k moves by 100 k + i; it notes what it was given."""

    spec: RobotSpec = SPEC
    horizon: int = 16
    replan_steps: int = 4
    thinks: list[tuple[float, str, bool]] = field(default_factory=list)
    acts: list[SimpleNamespace] = field(default_factory=list)

    @property
    def config(self) -> SimpleNamespace:
        return SimpleNamespace(replan_steps=self.replan_steps)

    def think(self, images, instruction, stamp, instruction_id=0, words=False) -> Thought:
        assert images["front"][0, 0, 0] == round(stamp * 20)
        self.thinks.append((stamp, instruction, words))
        return Thought(torch.zeros(2, 3), stamp, instruction_id, f"saw {instruction}" if words else None)

    def act(self, images, state, thought, now, prefix) -> np.ndarray:
        self.acts.append(SimpleNamespace(now=now, thought=thought, prefix=prefix))
        chunk = np.zeros((self.horizon, 2), np.float32)
        chunk[:, 0] = 100 * round(now * 20) + np.arange(self.horizon)
        return chunk


@dataclass
class LookingBack(LinePolicy):
    """S1 looks at three control steps, and notes the numbers of those before and what it sees; S2 looks at none."""

    frames: int = 3
    seen: list[tuple[list[int], int]] = field(default_factory=list)

    def think(self, images, instruction, stamp, instruction_id=0, words=False) -> Thought:
        return Thought(torch.zeros(2, 3), stamp, instruction_id)

    def act(self, images, state, thought, now, prefix, past=()) -> np.ndarray:
        self.seen.append(([round(one.stamp * 20) for one in past], int(images["front"][0, 0, 0])))
        return super().act(images, state, thought, now, prefix)

    def check(self, begin: int = 0) -> None:
        """It was shown every step from `begin` on, and none before."""
        for past, image in self.seen:
            step = past[-1] + 1 if past else begin
            assert past == list(range(max(begin, step - 2), step)) and image == step % 256
