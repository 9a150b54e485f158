"""LeRobot's batches as S1's training wants them: an age drawn, the picture S2 saw then, a prefix, augmented images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from lerobot.utils.constants import ACTION, OBS_STATE
from numpy.typing import NDArray
from torch import Tensor

from lerobot_policy_tandem.acting import pixels
from lerobot_policy_tandem.configuration_tandem import TandemConfig
from vla.tandem import TandemPolicy
from vla.training.augment import draw_changes
from vla.training.delays import draw_ages, draw_prefixes
from vla.training.loop import to_device


def training_batch(
    policy: TandemPolicy, config: TandemConfig, batch: dict[str, Any], rng: np.random.Generator
) -> tuple[dict[str, Any], UInt8[Tensor, "B V H W 3"]]:
    """(what `vla.training.stage_s1.fast_loss` takes, the pictures S2 saw), on the policy's device.

    batch: `observation.*` with the frames of `config.observation_delta_indices`, `action` (B, H, A), `timestamp`.
    """
    spec, device = policy.spec, policy.device
    frames = {camera.key: _over_time(batch[camera.key], 5) for camera in spec.cameras if camera.key in batch}
    state = _over_time(batch[OBS_STATE], 3)[:, -1].cpu().numpy()
    count = len(state)

    # The grid's place and the exact age of what S2 saw. Before its first frame an episode repeats that frame.
    wanted = draw_ages(rng, count, config.delays)
    grid = np.array(config.ages)
    chosen = grid[np.abs(np.nan_to_num(wanted)[:, None] * spec.rate_hz - grid).argmin(1)]
    place = torch.from_numpy(np.searchsorted(config.observation_delta_indices, -chosen)).to(device)
    frame = np.round(batch["timestamp"].cpu().numpy().reshape(count) * spec.rate_hz)
    age = np.where(np.isnan(wanted), np.nan, np.minimum(chosen, frame) / spec.rate_hz)

    which = torch.arange(count, device=device)
    seen = [pixels(frames[spec.camera(name).key][which, place]) for name in policy.s2.config.cameras]
    images = {name: pixels(frames[spec.camera(name).key][:, -1]) for name in policy.s1.config.cameras}
    past = batch["action_is_pad"].cpu().numpy()
    actions = policy.normalizer.action.normalize(_held(policy, batch[ACTION].cpu().numpy(), past))
    noise = rng.normal(0, config.state_noise, state.shape)
    fast = {
        "images": images,
        "state": torch.from_numpy((policy.normalizer.state.normalize(state) + noise).astype(np.float32)),
        "age": torch.from_numpy(age.astype(np.float32)),
        "actions": torch.from_numpy(actions),
        "valid": torch.from_numpy(~past),
        "prefix_len": torch.from_numpy(draw_prefixes(rng, count, config.delays)),
        "changes": {name: vars(draw_changes(rng, count, config.augment)) for name in images},
    }
    return to_device(fast, device), torch.stack(seen, dim=1)


def _over_time(values: Tensor, dimensions: int) -> Tensor:
    """(B, T, ...): LeRobot leaves T out where it is 1, in some columns."""
    return values if values.ndim == dimensions else values.unsqueeze(1)


def _held(
    policy: TandemPolicy, actions: Float[np.ndarray, "B H A"], past: NDArray[np.bool_]
) -> Float[np.ndarray, "B H A"]:
    """Actions past the episode's end, where LeRobot repeats the last one, as holds."""
    held = actions.copy()
    for row in np.flatnonzero(past.any(1)):
        held[row, past[row]] = policy.spec.hold_action(actions[row, -1])
    return held
