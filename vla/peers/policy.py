"""A checkpoint of LeRobot's as a policy that our loops drive: ACT, Diffusion, SmolVLA and others that act in chunks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lerobot.configs import PreTrainedConfig
from lerobot.policies import get_policy_class, make_pre_post_processors
from lerobot.utils.constants import ACTION, OBS_STATE
from numpy.typing import NDArray

from vla.errors import UserError
from vla.peers.batches import observation_batch, observed_steps
from vla.robots.base import Observation
from vla.runtime.timed import Images
from vla.s2.thought import Thought
from vla.spec import RobotSpec

SPEC_FILE = "robot_spec.yaml"
NOTHING = torch.zeros(0, 0)


@dataclass(frozen=True)
class _Told(Thought):
    told: str = ""


class PeerPolicy:
    """One rate: `think` only keeps the words, `act` looks, reads and acts in a single call.

    It executes `n_action_steps` of a chunk before the next, as LeRobot's `select_action` does, and hands out whole
    chunks, so that there is something to do while the next is computed.
    policy, before, after: LeRobot's policy and its two processors. spec: of the robot whose data it was trained on.
    Raises UserError if the policy's inputs or outputs are not the robot's.
    """

    def __init__(self, policy: Any, before: Any, after: Any, spec: RobotSpec) -> None:
        self.spec, self.policy = spec, policy.eval()
        self.before, self._after = before, after
        _check_features(policy.config, spec)
        steps = observed_steps(policy.config)
        self.frames = 1 - steps[0]
        self.config = SimpleNamespace(replan_steps=int(getattr(policy.config, "n_action_steps", 1)))
        if policy.config.type == "diffusion":  # it cuts its chunk there, and LeRobot forbids more than this
            policy.config.n_action_steps = policy.config.horizon - policy.config.n_obs_steps + 1
        self._steps = [step + self.frames - 1 for step in steps]

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str = "cpu") -> PeerPolicy:
        """Raises UserError if files are missing or damaged, or the robot it is for is not known."""
        folder = Path(folder)
        spec = _robot(folder)
        try:
            config = PreTrainedConfig.from_pretrained(folder)
            config.device, config.pretrained_path = device, folder
            if hasattr(config, "pretrained_backbone_weights"):
                config.pretrained_backbone_weights = None  # the checkpoint has its own
            policy = get_policy_class(config.type).from_pretrained(folder, config=config)
            where = {"preprocessor_overrides": {"device_processor": {"device": device}}}
            before, after = make_pre_post_processors(config, pretrained_path=str(folder), **where)
        except Exception as error:  # LeRobot, draccus, safetensors and torch raise a dozen unrelated types
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(f"policy {folder}: LeRobot cannot load it: {reason}") from None
        return cls(policy, before, after, spec)

    def save(self, folder: Path) -> None:
        """A checkpoint of LeRobot's, with the robot's spec beside it."""
        config = self.policy.config
        cut, config.n_action_steps = config.n_action_steps, self.config.replan_steps
        self.policy.save_pretrained(folder)
        config.n_action_steps = cut
        for processor in (self.before, self._after):
            processor.save_pretrained(folder)
        self.spec.save(folder / SPEC_FILE)

    def think(
        self, images: Images, instruction: str, stamp: float, instruction_id: int = 0, words: bool = False
    ) -> Thought:
        return _Told(NOTHING, stamp, instruction_id, told=instruction)

    @torch.inference_mode()
    def act(
        self,
        images: Images,
        state: NDArray[np.float32],
        thought: Thought | None,
        now: float,
        prefix: NDArray[np.float32],
        past: Sequence[Observation] = (),
    ) -> Float[np.ndarray, "H A"]:
        """A chunk in robot units, row 0 for the moment of the images. What is committed already, it cannot take in.

        past: what was seen in the control steps before, oldest first; where there were fewer than `frames`, the first
        is repeated.
        """
        told = thought.told if isinstance(thought, _Told) else ""
        seen = [*((one.images, one.state) for one in past), (images, state)]
        seen = [seen[0]] * (self.frames - len(seen)) + seen
        seen = [seen[i] for i in self._steps]
        pictures = {name: np.stack([one[name] for one, _ in seen])[None] for name in self.spec.camera_names}
        states = np.stack([felt for _, felt in seen])[None]
        batch = observation_batch(self.policy.config, self.spec, pictures, states, [told])
        self.policy.reset()  # what LeRobot remembers are its calls, not control steps
        chunk = self._after(self.policy.predict_action_chunk(self.before(batch)))
        return np.asarray(chunk[0].float().cpu().numpy(), np.float32)


def _robot(folder: Path) -> RobotSpec:
    """Beside the checkpoint, or in the dataset that LeRobot says it was trained on."""
    places = [folder / SPEC_FILE]
    try:
        trained = json.loads((folder / "train_config.json").read_text(encoding="utf-8"))
        places.append(Path(trained["dataset"]["root"]) / "meta" / SPEC_FILE)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    for place in places:
        if place.is_file():
            return RobotSpec.load(place)
    raise UserError(f"policy {folder}: it does not say for what robot; copy its dataset's meta/{SPEC_FILE} there")


def _check_features(config: PreTrainedConfig, spec: RobotSpec) -> None:
    """UserError unless state, action and cameras are the robot's."""
    cameras = {camera.key for camera in spec.cameras}
    if strangers := sorted(set(config.image_features) - cameras):
        raise UserError(f"policy: it looks through {strangers[0]}, robot {spec.name} has {', '.join(sorted(cameras))}")
    sizes = {
        OBS_STATE: (config.robot_state_feature, spec.state_size),
        ACTION: (config.action_feature, spec.action_size),
    }
    for what, (feature, size) in sizes.items():
        if feature is None or feature.shape[0] != size:
            found = "nothing" if feature is None else feature.shape[0]
            raise UserError(f"policy: {what} has {found} entries, robot {spec.name} has {size}")
