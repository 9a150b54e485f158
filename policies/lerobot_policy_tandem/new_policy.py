"""A new policy for a LeRobot dataset: S2 from elsewhere, S1 from nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lerobot_policy_tandem.configuration_tandem import TandemConfig
from vla import assets
from vla.actions.normalize import Normalizer
from vla.data.lerobot_v3 import read_motion
from vla.errors import UserError
from vla.s1.system import FastSystem
from vla.s2.system import CONFIG_FILE, SlowSystem
from vla.spec import RobotSpec
from vla.tandem import SLOW_FOLDER, TandemPolicy
from vla.tandem import TandemConfig as HalvesConfig


def new_policy(config: TandemConfig, dataset: Any) -> TandemPolicy:
    """dataset: LeRobot's metadata. Raises UserError if `config` does not fit it, or lacks something."""
    if dataset is None:
        raise UserError("policy.type=tandem alone makes a new policy, which needs a dataset; else give --policy.path")
    spec = RobotSpec.load(assets.find("robot", config.robot)) if config.robot else dataset_spec(dataset)
    if spec is None:
        raise UserError(
            f"dataset {dataset.root} has no meta/robot_spec.yaml, which says what its numbers mean:"
            " write one, or give --policy.robot=FILE"
        )
    if dataset.fps != spec.rate_hz:
        raise UserError(f"dataset {dataset.root} has {dataset.fps} frames/s, its robot {spec.name} {spec.rate_hz:g} Hz")
    oldest = max(config.ages) / spec.rate_hz
    if oldest > config.fast.max_age:
        raise UserError(f"policy.ages goes back {oldest:g} s, beyond policy.fast.max_age {config.fast.max_age:g} s")
    if config.fast.head == "fast":
        raise UserError("policy.fast.head=fast: its action tokens are fitted by vla train; begin from such a policy")
    slow = SlowSystem.from_pretrained(_s2_folder(config.s2))
    slow.config = replace(slow.config, cameras=tuple(config.s2_cameras) or slow.config.cameras)
    for option, cameras in (("s2_cameras", slow.config.cameras), ("fast.cameras", config.fast.cameras)):
        missing = [camera for camera in cameras if camera not in spec.camera_names]
        if missing:
            raise UserError(
                f"policy.{option}: robot {spec.name} has no camera {missing[0]}; give --policy.{option}=[NAME], of "
                f"{', '.join(spec.camera_names)}"
            )
    fast = FastSystem(config.fast, spec.state_size, spec.action_size, slow.latent_shape)
    normalizer = Normalizer.fit(*read_motion(Path(dataset.root)))
    return TandemPolicy(spec, slow, fast, normalizer, HalvesConfig(config.fast, config.replan_steps))


def dataset_spec(dataset: Any) -> RobotSpec | None:
    """The spec a dataset carries, if it does."""
    path = Path(dataset.root) / "meta" / "robot_spec.yaml"
    return RobotSpec.load(path) if path.is_file() else None


def _s2_folder(name: str | None) -> Path:
    if not name:
        shipped = ", ".join(assets.names("policy"))
        raise UserError(
            f"policy.s2 is not given: name the policy whose S2 is to think, shipped ({shipped}) or a folder"
        )
    folder = Path(name)
    return folder if (folder / CONFIG_FILE).is_file() else assets.find("policy", name) / SLOW_FOLDER
