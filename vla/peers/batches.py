"""What LeRobot's policies are given: observations under LeRobot's names, in LeRobot's shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from lerobot.configs import PreTrainedConfig
from lerobot.utils.constants import OBS_ENV_STATE, OBS_STATE
from torch import Tensor

from vla.peers.text import embed_text
from vla.spec import RobotSpec


def observed_steps(config: PreTrainedConfig) -> list[int]:
    """Which control steps a policy looks at, ... -1, 0 of the newest, oldest first."""
    return list(config.observation_delta_indices or [0])


def observation_batch(
    config: PreTrainedConfig,
    spec: RobotSpec,
    images: Mapping[str, UInt8[np.ndarray, "B T H W 3"]],
    state: Float[np.ndarray, "B T S"],
    texts: Sequence[str],
) -> dict[str, Any]:
    """B observations of T control steps each, with what they are told.

    The time axis stays where the policy asks for a history, even of one step, as LeRobot's dataset has it. Pictures
    become (3, H, W) in [0, 1]; the words are embedded if the policy has an environment state, and given as they are.
    """
    batch: dict[str, Any] = {"task": list(texts), OBS_STATE: torch.from_numpy(state)}
    for camera in spec.cameras:
        if camera.key in config.image_features:
            batch[camera.key] = torch.from_numpy(images[camera.name]).movedim(-1, -3).float() / 255
    if config.env_state_feature is not None:
        embedded = np.stack([embed_text(text, config.env_state_feature.shape[0]) for text in texts])
        batch[OBS_ENV_STATE] = torch.from_numpy(embedded)[:, None].repeat(1, state.shape[1], 1)
    if config.observation_delta_indices is None:
        return {key: value[:, -1] if isinstance(value, Tensor) else value for key, value in batch.items()}
    return batch
