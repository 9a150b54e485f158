"""Stage three: a short joint finish. S2 looks at the frame of some time ago, S1 acts now, and words keep S2 honest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla.ranks import Rank, share_of
from vla.tandem import TandemPolicy
from vla.training.delays import draw_ages
from vla.training.examples import Examples
from vla.training.stage_s1 import FastStage, FastStageConfig, fast_batch, fast_loss
from vla.training.stage_s2 import WordsStage
from vla.training.still_batches import jitter


@dataclass(frozen=True)
class JointConfig:
    """words: weight of S2's own losses, if any. insulate: actions teach S2's queries and nothing else of it.

    hindsight: how often, from 0 to 1, S2 is told what was done, as the episode's annotation says it, and not what the
    robot had been told (`vla data annotate`).

    recompute: gradient checkpointing. S2 reads so many frames at a time and keeps nothing of how; the backward pass
    reads them again. Memory is then for the activations of so many frames, however large the batch; time grows by
    about a third. 0: off.

    shard: of several processes each keeps a part of S2's weights, gradients, moments and average (FSDP); the weights
    are gathered while S2 reads.
    """

    words: float = 0.5
    insulate: bool = False
    hindsight: float = 0.0
    recompute: int = 0
    shard: bool = False
    s1: FastStageConfig = field(default_factory=lambda: FastStageConfig(batch=48))

    def __post_init__(self) -> None:
        if not 0 <= self.hindsight <= 1:
            raise ValueError(f"hindsight is {self.hindsight}, it is a share from 0 to 1")
        if self.recompute < 0:
            raise ValueError(f"recompute is {self.recompute}, it is a number of frames")


class JointModel(nn.Module):
    """S1, and S2, with its training-only heads if there are words."""

    def __init__(self, fast: nn.Module, words: nn.Module) -> None:
        super().__init__()
        self.fast = fast
        self.words = words


class JointStage:
    """A Stage of `vla.training.loop`. policy: the two halves to train; written to `<out>/policy` at checkpoints.

    words: S2's own stage; without, S2 learns from the actions alone.
    """

    def __init__(
        self, policy: TandemPolicy, examples: Examples, words: WordsStage | None, config: JointConfig, seed: int = 0
    ) -> None:
        if words and words.model.s2 is not policy.s2:
            raise ValueError("the words stage and the policy must share one S2")
        self.policy = policy
        self.examples = examples
        self.words = words
        self.config = config
        self.seed = seed
        self.model = JointModel(policy.s1, words.model if words else policy.s2)

    def batch(self, step: int) -> dict[str, Any]:
        rng = np.random.default_rng((self.seed, step, 1))
        config = self.config.s1
        frames = self.examples.draw(rng, config.batch)
        sources, ages = self.examples.look_back(frames, draw_ages(rng, len(frames), config.delays), stride=1)
        seen = self.views(sources)
        batch = {
            "fast": fast_batch(self.examples, self.policy.s1, frames, ages, config, rng),
            "seen": jitter(seen, rng),
            "prompts": self.examples.drawn_prompts(sources, rng, self.config.hindsight),
        }
        return {**batch, "words": self.words.batch(step)} if self.words else batch

    def observations(self, frames: Int[np.ndarray, " n"]) -> tuple[UInt8[Tensor, "n V H W 3"], list[str]]:
        """What S2 sees of frames, and the task of each."""
        return self.views(frames), self.examples.prompts(frames)

    def views(self, frames: Int[np.ndarray, " n"]) -> UInt8[Tensor, "n V H W 3"]:
        return torch.stack([self.examples.images(frames, camera) for camera in self.policy.s2.config.cameras], dim=1)

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor | float]]:
        acting = fast_loss(self.policy.s1, batch["fast"], self.latents(batch["seen"], batch["prompts"]))
        if not self.words:
            return acting, {}
        words, parts = self.words.loss(batch["words"])
        total = acting + self.config.words * words
        return total, {"actions": acting.detach(), "s2": words.detach(), **parts}

    def latents(self, seen: UInt8[Tensor, "n V H W 3"], prompts: list[str]) -> Float[Tensor, "n K D"]:
        """With gradients for the whole way, which `recompute` makes anew."""
        at_once = self.config.recompute

        def read(seen: Tensor, prompts: list[str]) -> Tensor:
            return self.policy.s2(seen, prompts, insulate=self.config.insulate).latents

        if not at_once:
            return read(seen, prompts)
        parts = [slice(start, start + at_once) for start in range(0, len(prompts), at_once)]
        return torch.cat([checkpoint(read, seen[part], prompts[part], use_reentrant=False) for part in parts])

    def share(self, batch: dict[str, Any], rank: Rank) -> dict[str, Any]:
        """Words are few, and every process reads all of them."""
        return {key: part if key == "words" else share_of(part, rank) for key, part in batch.items()}

    def save(self, out: Path) -> None:
        self.policy.save_pretrained(out / "policy")

    def evaluate(self) -> dict[str, float]:
        """S1's held-out errors with S2's thoughts as they are now, and S2's own results."""
        thoughts = LiveThoughts(self)
        fast = FastStage(self.policy.s1, self.examples, thoughts, self.config.s1, self.seed)
        return fast.evaluate() | (self.words.evaluate() if self.words else {})


class LiveThoughts:
    """S2 as it is now, asked anew."""

    stride = 1

    def __init__(self, joint: JointStage) -> None:
        self.joint = joint

    def at(self, frames: Int[np.ndarray, " n"]) -> Float[Tensor, "n K D"]:
        return self.joint.policy.s2(*self.joint.observations(frames)).latents
