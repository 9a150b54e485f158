"""`--env.type=tabletop` and `tabletop-suite`: the environments of `vla eval`, by the same table, for LeRobot."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_STATE

from vla import assets
from vla.robots.gym_sim import Environment, check_rendering, find_environment
from vla.spec import RobotSpec


@EnvConfig.register_subclass("tabletop")
@dataclass
class TabletopEnv(EnvConfig):
    """task: a family or "all". split: which words and targets may be drawn, as in `vla eval`."""

    task: str | None = "all"
    split: str = "all"

    def __post_init__(self) -> None:
        spec = RobotSpec.load(assets.find("robot", self._environment.robot))
        self.fps = round(spec.rate_hz)
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, (spec.action_size,)),
            "agent_pos": PolicyFeature(FeatureType.STATE, (spec.state_size,)),
            **{c.key: PolicyFeature(FeatureType.VISUAL, (c.height, c.width, 3)) for c in spec.cameras},
        }
        self.features_map = {key: OBS_STATE if key == "agent_pos" else key for key in self.features}

    @property
    def _environment(self) -> Environment:
        """UserError if there is no such task or split."""
        return find_environment(self.type, self.task or "all", self.split)

    @property
    def gym_id(self) -> str:
        """Asking for it registers it: this runs in every worker process that builds an environment."""
        importlib.import_module(self._environment.module)
        return self._environment.id

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        return {**self._environment.kwargs, "task": self.task or "all", "split": self.split}

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, Any]]:
        """UserError naming the packages to install if nothing can be rendered."""
        check_rendering()
        return super().create_envs(n_envs, use_async_envs)


@EnvConfig.register_subclass("tabletop-suite")
@dataclass
class TabletopSuiteEnv(TabletopEnv):
    """The furnished table with its eleven families."""
