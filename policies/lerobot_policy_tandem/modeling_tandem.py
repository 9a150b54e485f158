"""The tandem policy behind LeRobot's interface. The model is `vla.tandem.TandemPolicy`; here it is only translated."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from lerobot.configs import PreTrainedConfig
from lerobot.policies import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from numpy.typing import NDArray
from torch import Tensor

from lerobot_policy_tandem.acting import Seat, observations
from lerobot_policy_tandem.configuration_tandem import TandemConfig, robot_features
from lerobot_policy_tandem.new_policy import dataset_spec, new_policy
from lerobot_policy_tandem.training import training_batch
from vla import assets, tandem
from vla.errors import UserError
from vla.training.loop import parameter_groups
from vla.training.stage_s1 import fast_loss


class TandemPolicy(PreTrainedPolicy):
    """Both halves as one LeRobot policy, in the robot's units on both sides.

    halves: without, new ones are made for the robot of `dataset_meta` (`new_policy`). Raises UserError if they do not
    fit the dataset or the environment.
    """

    config_class = TandemConfig
    name = "tandem"
    config: TandemConfig

    def __init__(
        self,
        config: TandemConfig,
        dataset_meta: Any = None,
        halves: tandem.TandemPolicy | None = None,
        **_: Any,
    ) -> None:
        super().__init__(config)
        self.tandem = halves or new_policy(config, dataset_meta)
        config.check_robot(self.tandem.spec)
        self.s1, self.s2 = self.tandem.s1, self.tandem.s2
        self.s1.requires_grad_(True)
        self.s2.requires_grad_(config.train_s2)
        self._seats: list[Seat] = []

    # --- on disk -------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path,
        *,
        config: PreTrainedConfig | None = None,
        dataset_meta: Any = None,
        revision: str | None = None,
        **_: Any,
    ) -> Self:
        """A checkpoint of `vla` or of LeRobot: a folder, a shipped name or a hub id. Raises UserError if damaged."""
        if revision is not None:
            raise UserError("policy.pretrained_revision: download that revision, then give its folder as policy.path")
        folder = assets.find("policy", pretrained_name_or_path)
        # The weights may be trained or moved to a GPU, and an engine would follow neither.
        halves = tandem.TandemPolicy.from_pretrained(folder, engine=False)
        if config is None and (folder / "config.json").is_file():
            config = PreTrainedConfig.from_pretrained(folder)
        if config is None:
            config = checkpoint_config(halves)
        if not isinstance(config, TandemConfig):
            raise UserError(f"checkpoint {folder}: its config.json is for a policy of type {config.type}, not tandem")
        for name in ("fast", "replan_steps"):
            asked, has = getattr(config, name), getattr(halves.config, name)
            if asked != has:
                raise UserError(f"policy.{name} is {asked}, but checkpoint {folder} has {has}: leave it out")
        if dataset_meta is not None and (spec := dataset_spec(dataset_meta)) is not None:
            halves.spec.check_robot(spec)
        return cls(config, halves=halves).to(config.device).eval()

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """A checkpoint of `vla` in full precision, so that a run goes on exactly, and LeRobot's `config.json`."""
        if state_dict is not None:
            raise NotImplementedError("a tandem policy trained under FSDP cannot be saved; use DDP")
        self.tandem.save_pretrained(save_directory, torch.float32)
        self.config._save_pretrained(save_directory)

    # --- training ------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if not self.config.train_s2:
            self.s2.eval()
        return self

    def get_optim_params(self) -> list[dict[str, Any]]:
        """Matrices decay, vectors do not. Weights of convolutions become contiguous: LeRobot saves no other moments."""
        for parameter in self.parameters():
            parameter.data = parameter.data.contiguous()
        return parameter_groups(self, self.config.optimizer_weight_decay)[1]

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The loss of S1 on a batch of LeRobot's, S2 having looked some time before. All is drawn by torch's state."""
        rng = np.random.default_rng(int(torch.randint(2**62, (1,))))
        fast, seen = training_batch(self.tandem, self.config, batch, rng)
        with torch.set_grad_enabled(self.config.train_s2 and torch.is_grad_enabled()):
            latents = self.s2(seen, batch["task"]).latents
        return fast_loss(self.s1, fast, latents), {}

    # --- at work -------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Episodes begin: S2 has no thought yet, S1 no chunk."""
        self._seats = []

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any], **_: Any) -> Float[Tensor, "B A"]:
        """One control period of each environment, run by `vla.runtime.loop.ControlLoop` with `config.timing`."""
        found = observations(self.tandem.spec, batch)
        if not self._seats:
            self._seats = [Seat(self.tandem, self.config.timing, first) for first, _ in found]
        actions = [seat.step(seen, told) for seat, (seen, told) in zip(self._seats, found, strict=True)]
        return torch.from_numpy(np.stack(actions)).to(self.tandem.device)

    def supports_rtc(self) -> bool:
        """Real-time chunking by training: S1 has seen prefixes of committed actions, of up to `delays.max_prefix`."""
        return self.config.delays.max_prefix > 0

    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: dict[str, Any],
        inference_delay: int = 0,
        prev_chunk_left_over: Float[Tensor, "T A"] | None = None,
        **_: Any,
    ) -> Float[Tensor, "B H A"]:
        """A chunk per observation, row 0 for its moment; S2 looks at the same pictures, so its thoughts are of now.

        inference_delay: of the actions left over, so many will be executed before the chunk can take over; the chunk
        repeats them and goes on from there. LeRobot pads what is left over with rows of zeros, which no robot is sent.
        """
        size = self.tandem.spec.action_size
        prefix: NDArray[np.float32] = np.zeros((0, size), np.float32)
        if prev_chunk_left_over is not None:
            left = prev_chunk_left_over.reshape(-1, size).float().cpu().numpy()
            real = np.flatnonzero(left.any(1))
            prefix = left[: min(inference_delay, real[-1] + 1 if len(real) else 0)]
        chunks = []
        for seen, told in observations(self.tandem.spec, batch):
            thought = self.tandem.think(seen.images, told, stamp=0.0)
            chunks.append(self.tandem.act(seen.images, seen.state, thought, now=0.0, prefix=prefix))
        return torch.from_numpy(np.stack(chunks)).to(self.tandem.device)


def checkpoint_config(halves: tandem.TandemPolicy) -> TandemConfig:
    """LeRobot's configuration of a checkpoint that `vla` made."""
    features = robot_features(halves.spec)
    return TandemConfig(
        fast=halves.config.fast,
        replan_steps=halves.config.replan_steps,
        output_features={ACTION: features.pop(ACTION)},
        input_features=features,
    )
