"""Which datasets are of which robot, and the policy and the stages that several robots make together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vla.actions.normalize import Normalizer
from vla.data.cache import FrameCache
from vla.data.order import rounded
from vla.errors import UserError
from vla.many import Embodiment, ManyPolicy, cameras_in_slots, check_embodiment
from vla.ranks import Rank, share_of
from vla.s1.shared import SharedFastSystem
from vla.s1.system import FastConfig
from vla.s2.system import SlowConfig, SlowSystem
from vla.spec import RobotSpec
from vla.tandem import TandemConfig, TandemPolicy
from vla.training.examples import DriverWeights, Examples, fit_action_tokens, fit_normalizer, one_spec
from vla.training.stage_joint import JointStage
from vla.training.stage_s1 import FastStage
from vla.training.stage_s2 import WordsStage


@dataclass(frozen=True)
class RobotRecipe:
    """cameras: slot -> the camera of this robot that fills it, where it does not have the slot's name."""

    cameras: Mapping[str, str] = field(default_factory=dict)


Robots = Mapping[str, RobotRecipe]


def examples_by_robot(
    caches: Sequence[FrameCache],
    weights: Sequence[float],
    normalizers: Mapping[str, Normalizer],
    drivers: DriverWeights | None = None,
) -> dict[str, Examples]:
    """Robot's name -> its examples, in the order of the datasets. normalizers: those that are known already.

    Raises UserError for two robots of one name: most likely that is one robot, with a mistake in a spec.
    """
    found: dict[str, list[int]] = {}
    for i, cache in enumerate(caches):
        found.setdefault(cache.spec.name, []).append(i)
    examples = {}
    for name, mine in found.items():
        own = [caches[i] for i in mine]
        one_spec(own)
        normalizer = normalizers.get(name) or fit_normalizer(own)
        examples[name] = Examples(own, normalizer, [weights[i] for i in mine], drivers)
    return examples


def all_slots(fast: FastConfig, slow: SlowConfig) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*fast.cameras, *slow.cameras)))


def check_robots(specs: Sequence[RobotSpec], fast: FastConfig, slow: SlowConfig, given: Robots) -> None:
    """UserError if the robots of the datasets do not fit the recipe's cameras or its `robots`."""
    names = {spec.name: spec for spec in specs}
    unknown = [name for name in given if name not in names]
    if unknown:
        raise UserError(f"train: the recipe's robots names {unknown[0]}, the datasets are of {', '.join(names)}")
    if len(names) == 1:
        _check_cameras(specs[0], fast, slow)
        return
    for name, spec in names.items():
        cameras = cameras_in_slots(spec, all_slots(fast, slow), given.get(name, RobotRecipe()).cameras)
        check_embodiment(name, cameras, slow.cameras)


def _check_cameras(spec: RobotSpec, fast: FastConfig, slow: SlowConfig) -> None:
    for part, cameras in (("slow", slow.cameras), ("fast", fast.cameras)):
        for camera in cameras:
            if camera not in spec.camera_names:
                raise UserError(
                    f"train: the recipe's {part}.cameras names {camera}, robot {spec.name} has "
                    f"{', '.join(spec.camera_names)}; cameras: [] takes the robot's own"
                )


def make_policy(
    examples: Mapping[str, Examples],
    slow: SlowSystem,
    shared: SharedFastSystem | None,
    config: TandemConfig,
    robots: Robots,
) -> ManyPolicy:
    """Of all robots that there are examples of; with a new S1 if there is none yet."""
    slots = all_slots(config.fast, slow.config)
    embodiments = {}
    for name, one in examples.items():
        cameras = cameras_in_slots(one.spec, slots, robots.get(name, RobotRecipe()).cameras)
        tokens = fit_action_tokens(one, config.fast.horizon) if config.fast.head == "fast" else None
        embodiments[name] = Embodiment(one.spec, one.normalizer, cameras, tokens)
    if shared is None:
        bodies = {name: one.body(config.fast.cameras) for name, one in embodiments.items()}
        shared = SharedFastSystem(config.fast, bodies, slow.latent_shape)
    return ManyPolicy(embodiments, slow, shared, config)


def share_out(batch: int, examples: Mapping[str, Examples]) -> dict[str, int]:
    """How many frames of a batch are of which robot: by their frames and weights, at least one.

    Raises UserError if the batch is too small for that.
    """
    if batch < len(examples):
        raise UserError(f"train: a batch of {batch} cannot hold a frame of each of {len(examples)} robots")
    drawn = np.array([one.drawn for one in examples.values()])
    return dict(zip(examples, map(int, rounded(drawn / drawn.sum() * batch)), strict=True))


class SharedModel(nn.Module):
    """All that is trained, once."""

    def __init__(self, fast: SharedFastSystem, words: nn.Module | None) -> None:
        super().__init__()
        self.fast, self.words = fast, words


class RobotsStage:
    """A Stage of `vla.training.loop`: of every robot a part of each batch, all of it one loss.

    States and actions of different lengths so need no padding: a part goes through its own ends of S1, and through the
    shared middle. stages: robot -> its own stage, on its policy in `policy`; each counts by its share of the batch.
    words: S2's own stage, whose loss is added with `words_weight`; S2 is trained with or without, unless `frozen`.
    """

    def __init__(
        self,
        policy: ManyPolicy,
        stages: Mapping[str, FastStage | JointStage],
        shares: Mapping[str, int],
        words: WordsStage | None = None,
        words_weight: float = 0.0,
        frozen: bool = False,
    ) -> None:
        self.policy, self.stages, self.words, self.words_weight = policy, dict(stages), words, words_weight
        self.shares = {name: count / sum(shares.values()) for name, count in shares.items()}
        self.model = SharedModel(policy.shared, None if frozen else words.model if words else policy.s2)

    def batch(self, step: int) -> dict[str, Any]:
        batch: dict[str, Any] = {"robots": {name: stage.batch(step) for name, stage in self.stages.items()}}
        return {**batch, "words": self.words.batch(step)} if self.words else batch

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor | float]]:
        losses = {name: stage.loss(batch["robots"][name])[0] for name, stage in self.stages.items()}
        acting = torch.stack([self.shares[name] * loss for name, loss in losses.items()]).sum()
        parts: dict[str, Tensor | float] = {name: loss.detach() for name, loss in losses.items()}
        if not self.words:
            return acting, parts
        words, said = self.words.loss(batch["words"])
        return acting + self.words_weight * words, parts | {"s2": words.detach(), **said}

    def share(self, batch: dict[str, Any], rank: Rank) -> dict[str, Any]:
        return {**batch, "robots": share_of(batch["robots"], rank)}

    def save(self, out: Path) -> None:
        self.policy.save_pretrained(out / "policy")

    def evaluate(self) -> dict[str, float]:
        """As each robot's own stage, and S2's."""
        results = {
            f"{name} {key}": value for name, stage in self.stages.items() for key, value in stage.evaluate().items()
        }
        return results | (self.words.evaluate() if self.words else {})


def together(
    policy: TandemPolicy | ManyPolicy,
    stages: Mapping[str, FastStage | JointStage],
    shares: Mapping[str, int],
    words: WordsStage | None = None,
    words_weight: float = 0.0,
    frozen: bool = False,
) -> FastStage | JointStage | RobotsStage:
    """As `RobotsStage`; of a policy of one robot its only stage, which has its words already."""
    if isinstance(policy, ManyPolicy):
        return RobotsStage(policy, stages, shares, words, words_weight, frozen)
    (only,) = stages.values()
    return only
