"""A policy of LeRobot's as a stage of our training loop, on our cache: the same data, loop and averaging as ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies import get_policy_class, make_policy_config, make_pre_post_processors
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from vla.errors import UserError
from vla.peers.batches import observation_batch, observed_steps
from vla.peers.policy import PeerPolicy
from vla.peers.small_vlm import SmallVlm, write_small_vlm
from vla.training.examples import Examples

PICTURES = 256
"""Of each camera, from which the statistics of its colours are taken."""


@dataclass(frozen=True)
class PeerRecipe:
    """type: as LeRobot names it. batch: frames a step. options: of its configuration, as LeRobot names them.

    text: numbers in the embedding of the instruction, for types without language; 0: none. vlm: for SmolVLA, the VLM
    that is made for it.
    """

    type: str
    batch: int = 64
    text: int = 128
    vlm: SmallVlm | None = None
    options: dict = field(default_factory=dict)


class PeerStage:
    """A Stage of `vla.training.loop`; its `policy` is what is trained."""

    def __init__(self, policy: PeerPolicy, examples: Examples, batch: int, seed: int = 0) -> None:
        self.policy, self.examples, self._batch, self._seed = policy, examples, batch, seed
        self.model = policy.policy
        self._state = np.concatenate([np.asarray(cache.state) for cache in examples.caches])
        config = self.model.config
        self._observed = np.array(observed_steps(config))
        self._acted = np.array(config.action_delta_indices)

    def batch(self, step: int) -> dict[str, Any]:
        rng = np.random.default_rng((self._seed, step))
        return self._make(self.examples.draw(rng, self._batch))

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor | float]]:
        loss, _ = self.model.forward(batch)
        return loss, {}

    def evaluate(self) -> dict[str, float]:
        """The training loss on held-out frames."""
        held_out = self.examples.held_out
        frames = np.random.default_rng(self._seed).choice(held_out, min(self._batch, len(held_out)), replace=False)
        return {"loss": float(self.loss(self._make(frames))[0])}

    def save(self, out: Path) -> None:
        self.policy.save(out / "policy")

    def _make(self, frames: Int[np.ndarray, " n"]) -> dict[str, Any]:
        """Observations and chunks, through LeRobot's own processor. Beyond an episode its last row is repeated.

        What ours do not learn from, these do not either: what lies beyond, and what answers a later disturbance.
        """
        examples, spec = self.examples, self.examples.spec
        start, stop = examples.start[frames, None], examples.stop[frames, None]
        seen = np.clip(frames[:, None] + self._observed, start, stop - 1)
        images = {
            camera.name: examples.images(seen.ravel(), camera.name).unflatten(0, seen.shape).numpy()
            for camera in spec.cameras
        }
        state = self._state[seen]
        batch = observation_batch(self.model.config, spec, images, state, examples.prompts(frames))
        rows = frames[:, None] + self._acted
        batch[ACTION] = torch.from_numpy(examples.raw_action[np.clip(rows, start, stop - 1)])
        batch["action_is_pad"] = torch.from_numpy((rows < start) | (rows >= examples.foreseen[frames, None]))
        return self.policy.before(batch)


def new_peer(recipe: PeerRecipe, examples: Examples, seed: int, home: Path | None = None) -> PeerPolicy:
    """An untrained policy for the robot of the examples, normalised by their statistics.

    home: where a VLM of its own is kept, in `vlm/`, for as long as the policy is used.
    Raises UserError if LeRobot has no such type or option, or a package of it is missing.
    """
    spec = examples.spec
    inputs = {
        camera.key: PolicyFeature(FeatureType.VISUAL, (3, camera.height, camera.width)) for camera in spec.cameras
    }
    inputs[OBS_STATE] = PolicyFeature(FeatureType.STATE, (spec.state_size,))
    if recipe.text:
        inputs[OBS_ENV_STATE] = PolicyFeature(FeatureType.ENV, (recipe.text,))
    outputs = {ACTION: PolicyFeature(FeatureType.ACTION, (spec.action_size,))}
    torch.manual_seed(seed)
    try:
        options = {key: tuple(item) if isinstance(item, list) else item for key, item in recipe.options.items()}
        if recipe.vlm is not None and home is not None:
            size = max(max(camera.height, camera.width) for camera in spec.cameras)
            write_small_vlm(home / "vlm", recipe.vlm, size, sorted(set(examples.tasks)))
            options |= {"vlm_model_name": str((home / "vlm").resolve()), "load_vlm_weights": False}
            options |= {"num_vlm_layers": recipe.vlm.layers, "resize_imgs_with_padding": (size, size)}
        config = make_policy_config(
            recipe.type, input_features=inputs, output_features=outputs, device="cpu", push_to_hub=False, **options
        )
        policy = get_policy_class(recipe.type)(config)
        if getattr(config, "pretrained_backbone_weights", "") is None:
            _thaw_norms(policy)
        before, after = make_pre_post_processors(config, dataset_stats=_statistics(examples))
    except (ValueError, TypeError, ImportError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"peer {recipe.type}: LeRobot cannot make it: {reason}") from None
    return PeerPolicy(policy, before, after, spec)


def _thaw_norms(model: nn.Module) -> None:
    """Norms that are trained in place of frozen ones, which without pretrained weights normalise nothing.

    Their tensors have the same names: a checkpoint is loaded into frozen ones again.
    """
    for name, norm in list(model.named_modules()):
        if isinstance(norm, FrozenBatchNorm2d):
            model.set_submodule(name, nn.BatchNorm2d(len(norm.weight), norm.eps))


def _statistics(examples: Examples) -> dict[str, dict[str, Tensor]]:
    """Of states and actions over all frames; of colours, in [0, 1], over some."""
    rng = np.random.default_rng(0)
    states = np.concatenate([np.asarray(cache.state) for cache in examples.caches])
    found = {OBS_STATE: _spread(states), ACTION: _spread(examples.raw_action)}
    frames = rng.choice(len(examples), min(PICTURES, len(examples)), replace=False)
    for camera in examples.spec.cameras:
        pixels = examples.images(frames, camera.name).reshape(-1, 3).numpy().astype(np.float32) / 255
        found[camera.key] = {name: value[:, None, None] for name, value in _spread(pixels).items()}
    return found


def _spread(rows: NDArray[np.floating]) -> dict[str, Tensor]:
    values: dict[str, Any] = {name: getattr(np, name)(rows, axis=0) for name in ("min", "max", "mean", "std")}
    values |= {name: np.quantile(rows, share, axis=0) for name, share in (("q01", 0.01), ("q99", 0.99))}
    return {name: torch.tensor(np.asarray(value), dtype=torch.float32) for name, value in values.items()}
