"""LeRobot's standard pipelines: rename, batch, device. Nothing is normalised here: see `normalization_mapping`."""

from __future__ import annotations

from typing import Any

from lerobot.processor import PolicyProcessorPipeline, make_default_pre_post_processors

from lerobot_policy_tandem.configuration_tandem import TandemConfig


def make_tandem_pre_post_processors(
    config: TandemConfig, dataset_stats: dict[str, dict[str, Any]] | None = None
) -> tuple[PolicyProcessorPipeline, PolicyProcessorPipeline]:
    """Observations in, and actions out, in the robot's units."""
    return make_default_pre_post_processors(config, dataset_stats)
