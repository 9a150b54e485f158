"""A recipe: everything that decides a training run but the data, as strict YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vla.s1.system import FastConfig
from vla.s2.small import SmallShape
from vla.s2.system import SlowConfig
from vla.strict import parse, read_yaml, to_plain
from vla.tandem import TandemConfig
from vla.training.loop import LoopConfig
from vla.training.robots import RobotRecipe
from vla.training.stage_joint import JointConfig
from vla.training.stage_s1 import FastStageConfig
from vla.training.stage_s2 import WordsConfig


@dataclass(frozen=True)
class StageRecipe:
    """One stage: which, how long and how fast (`loop`), and what it is fed: under its own name, in joint words too."""

    stage: Literal["words", "s1", "joint"]
    loop: LoopConfig = field(default_factory=LoopConfig)
    words: WordsConfig = field(default_factory=WordsConfig)
    s1: FastStageConfig = field(default_factory=FastStageConfig)
    joint: JointConfig = field(default_factory=JointConfig)

    def __post_init__(self) -> None:
        own = ("words", "joint") if self.stage == "joint" else (self.stage,)
        for name, untouched in (("words", WordsConfig()), ("s1", FastStageConfig()), ("joint", JointConfig())):
            if name not in own and getattr(self, name) != untouched:
                instead = "; give joint.s1" if (self.stage, name) == ("joint", "s1") else ""
                raise ValueError(f"{name} is not read in a stage {self.stage}{instead}")


@dataclass(frozen=True)
class Recipe:
    """slow, shape: S2. fast: S1. The seed is every stage's; the device is the command line's.

    robots: what must be said of a robot, under its name, if the datasets are of several. The cameras of `slow` and
    `fast` are then slots: a robot fills those that its own cameras have the names of, and those that are named here.
    """

    stages: tuple[StageRecipe, ...]
    seed: int = 0
    replan_steps: int = 4
    slow: SlowConfig = field(default_factory=SlowConfig)
    shape: SmallShape = field(default_factory=SmallShape)
    fast: FastConfig = field(default_factory=FastConfig)
    robots: Mapping[str, RobotRecipe] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages is empty")
        for i, stage in enumerate(self.stages):
            # One seed and one device for all: a second place to give them would be silently overruled.
            for name in ("seed", "device"):
                if getattr(stage.loop, name) != getattr(LoopConfig(), name):
                    where = "at the top of the recipe" if name == "seed" else "with --device"
                    raise ValueError(f"stages[{i}].loop.{name} is to be given {where}")
            before = [one.words.held_out for one in self.stages[:i] if one.stage == "words"]
            if stage.stage == "joint" and before and stage.words.held_out not in (before[-1], WordsConfig.held_out):
                raise ValueError(f"stages[{i}].words.held_out is that of the words stage before it: leave it out")
            delays = {"s1": stage.s1.delays, "joint": stage.joint.s1.delays}.get(stage.stage)
            if delays and delays.max_age > self.fast.max_age:
                raise ValueError(
                    f"stages[{i}] draws ages up to {delays.max_age} s, beyond fast.max_age {self.fast.max_age} s"
                )
        TandemConfig(fast=self.fast, replan_steps=self.replan_steps)

    def to_dict(self) -> dict[str, Any]:
        return to_plain(self)


def load_recipe(path: Path) -> Recipe:
    """Strict: an unknown key, a missing one or a wrong type is a UserError that names its path."""
    what = f"recipe {path.name}"
    return parse(Recipe, read_yaml(path, what), what)
