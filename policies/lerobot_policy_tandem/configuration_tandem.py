"""What LeRobot's command line can set: `--policy.NAME=VALUE`, nested as in `--policy.timing.s2_delay=0.2`."""

from __future__ import annotations

from dataclasses import dataclass, field

from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature, PreTrainedConfig
from lerobot.optim import AdamWConfig, CosineDecayWithWarmupSchedulerConfig
from lerobot.utils.constants import ACTION, OBS_STATE

from vla.errors import UserError
from vla.runtime.loop import Timing
from vla.s1.system import FastConfig
from vla.spec import RobotSpec
from vla.training.augment import AugmentConfig
from vla.training.delays import DelayConfig


@PreTrainedConfig.register_subclass("tandem")
@dataclass
class TandemConfig(PreTrainedConfig):
    """A new policy: `s2` says where S2 comes from, S1 starts from nothing. With `--policy.path` both come from there.

    s2: a shipped policy, a checkpoint or a folder that holds S2 alone. s2_cameras: what it looks through, if the robot
    has other names for its cameras. robot: spec of the dataset's robot, a shipped name or a file, for a dataset without
    `meta/robot_spec.yaml`. fast, replan_steps: as in a recipe of `vla train`.
    train_s2: actions also teach S2; else it stays as it is.
    ages: how many frames ago S2 may have looked, in training. LeRobot loads one fixed grid of past frames for every
    sample; the age drawn as `delays` says becomes the nearest of these.
    timing: the latency S2 and S1 are charged in evaluation, as `vla eval` does.
    """

    s2: str | None = None
    s2_cameras: tuple[str, ...] = ()
    robot: str | None = None
    fast: FastConfig = field(default_factory=FastConfig)
    replan_steps: int = 4
    train_s2: bool = False
    ages: tuple[int, ...] = (0, 4, 10, 20, 40)
    delays: DelayConfig = field(default_factory=DelayConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    state_noise: float = 0.01
    timing: Timing = field(default_factory=Timing)

    optimizer_lr: float = 1e-3
    optimizer_weight_decay: float = 0.05
    optimizer_grad_clip_norm: float = 1.0
    scheduler_warmup_steps: int = 200
    scheduler_decay_steps: int = 10_000
    scheduler_decay_lr: float = 1e-5

    push_to_hub: bool = False
    # The checkpoint's own normalization.json does it, so that `vla` and LeRobot cannot disagree.
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.ages or min(self.ages) < 0:
            raise UserError(f"policy.ages is {list(self.ages)}: give frames before now, such as [0,10,20]")

    @property
    def observation_delta_indices(self) -> list[int]:
        """Frames to load, oldest first; the last is now."""
        return [-age for age in sorted({0, *self.ages}, reverse=True)]

    @property
    def action_delta_indices(self) -> list[int]:
        return list(range(self.fast.horizon))

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> AdamWConfig:
        return AdamWConfig(
            lr=self.optimizer_lr,
            betas=(0.9, 0.95),
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        return CosineDecayWithWarmupSchedulerConfig(
            num_warmup_steps=self.scheduler_warmup_steps,
            num_decay_steps=self.scheduler_decay_steps,
            peak_lr=self.optimizer_lr,
            decay_lr=self.scheduler_decay_lr,
        )

    def validate_features(self) -> None:
        """UserError unless the dataset or environment has what every robot of ours has."""
        for key, known in ((OBS_STATE, self.input_features), (ACTION, self.output_features)):
            if key not in (known or {}):
                raise UserError(f"policy: the dataset or environment has no {key}; it has {', '.join(known or {})}")

    def check_robot(self, spec: RobotSpec) -> None:
        """UserError unless the features LeRobot found are those of this robot."""
        self.validate_features()
        theirs = {**(self.input_features or {}), **(self.output_features or {})}
        for key, feature in robot_features(spec).items():
            if key not in theirs:
                raise UserError(f"policy: the dataset or environment has no {key}, which robot {spec.name} has")
            if feature.type is not FeatureType.VISUAL and theirs[key].shape != feature.shape:
                raise UserError(
                    f"policy: {key} of the dataset or environment has shape {tuple(theirs[key].shape)},"
                    f" robot {spec.name} has {feature.shape}"
                )


def robot_features(spec: RobotSpec) -> dict[str, PolicyFeature]:
    """The robot in LeRobot's terms; images channel first."""
    images = {
        camera.key: PolicyFeature(FeatureType.VISUAL, (3, camera.height, camera.width)) for camera in spec.cameras
    }
    return {
        **images,
        OBS_STATE: PolicyFeature(FeatureType.STATE, (spec.state_size,)),
        ACTION: PolicyFeature(FeatureType.ACTION, (spec.action_size,)),
    }
