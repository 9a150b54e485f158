"""Stage two: S1 learns to act, from cached episodes and the latents a frozen S2 left for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vla.ranks import Rank, share_of
from vla.s1.system import FastSystem
from vla.tandem import TandemPolicy
from vla.training.augment import AugmentConfig, Changes, apply_changes, draw_changes
from vla.training.delays import DelayConfig, draw_ages, draw_prefixes
from vla.training.examples import Examples

Batch = dict[str, Any]


@dataclass(frozen=True)
class FastStageConfig:
    """batch: frames a step. state_noise: standard deviation, in normalised units, added to the state in training.

    stride: S2 reads every stride-th frame of an episode, trained with S1 any. held_out: frames in an evaluation.
    """

    batch: int = 128
    state_noise: float = 0.01
    stride: int = 2
    held_out: int = 1024
    delays: DelayConfig = field(default_factory=DelayConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        for name in ("batch", "stride", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")


class Thoughts(Protocol):
    """Where latents come from: `vla.training.latents.CachedThoughts`, or S2 as it is now."""

    stride: int

    def at(self, frames: Int[np.ndarray, " n"]) -> Float[Tensor, "n K D"]: ...


class FastStage:
    """A Stage of `vla.training.loop`.

    thoughts: latents of the frames of `examples`. policy: if given, written to `<out>/policy` at every checkpoint.
    """

    def __init__(
        self,
        model: FastSystem,
        examples: Examples,
        thoughts: Thoughts,
        config: FastStageConfig,
        seed: int = 0,
        policy: TandemPolicy | None = None,
    ) -> None:
        self.model = model
        self.examples = examples
        self.thoughts = thoughts
        self.config = config
        self.seed = seed
        self.policy = policy

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step))
        frames = self.examples.draw(rng, self.config.batch)
        ages = draw_ages(rng, len(frames), self.config.delays)
        sources, ages = self.examples.look_back(frames, ages, self.thoughts.stride)
        batch = fast_batch(self.examples, self.model, frames, ages, self.config, rng)
        return {**batch, "latents": self.thoughts.at(sources)}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor | float]]:
        return fast_loss(self.model, batch, batch["latents"]), {}

    def share(self, batch: Batch, rank: Rank) -> Batch:
        return share_of(batch, rank)

    def save(self, out: Path) -> None:
        if self.policy is not None:
            self.policy.save_pretrained(out / "policy")

    def evaluate(self) -> dict[str, float]:
        """Mean absolute errors of held-out normalised actions: over the ages of training, at fixed ages, and none.

        gripper_wrong: share of actions whose gripper is on the wrong side of half open.
        """
        rng = np.random.default_rng(self.seed)
        held_out = self.examples.held_out
        frames = rng.choice(held_out, min(self.config.held_out, len(held_out)), replace=False)
        l1, gripper_wrong = self._errors(frames, draw_ages(rng, len(frames), self.config.delays))
        results = {"l1": l1, "gripper_wrong": gripper_wrong}
        for name, age in {"0": 0.0, "0.5": 0.5, "1": 1.0, "none": np.nan}.items():
            results[f"l1_age_{name}"] = self._errors(frames, np.full(len(frames), age))[0]
        return results

    def _errors(self, frames: Int[np.ndarray, " n"], ages: Float[np.ndarray, " n"]) -> tuple[float, float]:
        device = next(self.model.parameters()).device
        errors, wrong = [], []
        sources, ages = self.examples.look_back(frames, ages, self.thoughts.stride)
        for start in range(0, len(frames), self.config.batch):
            rows = slice(start, start + self.config.batch)
            batch = fast_batch(self.examples, self.model, frames[rows], ages[rows], self.config)
            said = self.model.act(
                {name: image.to(device) for name, image in batch["images"].items()},
                batch["state"].to(device),
                self.thoughts.at(sources[rows]).to(device),
                batch["age"].to(device),
                batch["actions"].to(device),
                batch["prefix_len"].to(device),
            ).cpu()
            actions, valid = batch["actions"], batch["valid"]
            errors.append((said - actions).abs()[valid])
            wrong.append((self._open(said) != self._open(actions))[valid.numpy()])
        apart = np.concatenate(wrong)
        return float(torch.cat(errors).mean()), float(apart.mean()) if apart.size else 0.0

    def _open(self, actions: Float[Tensor, "n H A"]) -> Bool[np.ndarray, "n H G"]:
        """Of normalised actions, where each gripper is more than half open."""
        spec, robot = self.examples.spec, self.examples.normalizer.action.denormalize(actions.float().numpy())
        return robot[..., spec.action_slices.get("gripper", slice(0, 0))] > spec.gripper_top / 2


def fast_batch(
    examples: Examples,
    model: FastSystem,
    frames: Int[np.ndarray, " n"],
    ages: np.ndarray,
    config: FastStageConfig,
    rng: np.random.Generator | None = None,
) -> Batch:
    """All S1 needs but the latents; with `rng` also state noise, a prefix and how to change the images.

    Head `fast` learns chunks as a whole, and in training none with an action that is not to be learned.
    """
    given = np.zeros(len(frames), int) if rng is None else draw_prefixes(rng, len(frames), config.delays)
    actions, valid = examples.chunks(frames, model.config.horizon, given)
    if rng is not None and model.config.head == "fast":
        valid &= _wholly_learned(examples, frames, given, valid)[:, None]
    state = examples.state[frames]
    images = {camera: examples.images(frames, camera) for camera in model.config.cameras}
    batch: Batch = {
        "images": images,
        "age": torch.from_numpy(ages.astype(np.float32)),
        "actions": torch.from_numpy(actions),
        "valid": torch.from_numpy(valid),
        "prefix_len": torch.from_numpy(given),
    }
    if rng is not None:
        state = state + rng.normal(0, config.state_noise, state.shape).astype(np.float32)
        batch["changes"] = {name: vars(draw_changes(rng, len(frames), config.augment)) for name in images}
    return batch | {"state": torch.from_numpy(state)}


def _wholly_learned(
    examples: Examples, frames: Int[np.ndarray, " n"], given: Int[np.ndarray, " n"], valid: Bool[np.ndarray, "n H"]
) -> Bool[np.ndarray, " n"]:
    """Chunks of which every action is to be learned that lies behind the given ones and within the episode."""
    ahead = np.arange(valid.shape[1])
    ended = ahead >= (examples.stop[frames] - frames)[:, None]
    return (valid | ended | (ahead < given[:, None])).all(1)


def fast_loss(model: FastSystem, batch: Batch, latents: Tensor) -> Tensor:
    """S1's loss on a batch of `fast_batch` that was drawn for training."""
    images = {name: apply_changes(image, Changes(**batch["changes"][name])) for name, image in batch["images"].items()}
    return model.loss(
        images, batch["state"], latents, batch["age"], batch["actions"], batch["prefix_len"], batch["valid"]
    )
