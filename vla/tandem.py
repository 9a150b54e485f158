"""The whole model: S2 thinks, S1 acts, and a checkpoint holds both with the robot they are for."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from vla.actions.fast import FastTokens
from vla.actions.normalize import Normalizer
from vla.errors import UserError
from vla.ranks import my_rank
from vla.s1.engine import Engine
from vla.s1.system import FastConfig, FastSystem
from vla.s2.system import SlowSystem
from vla.s2.thought import Thought
from vla.spec import RobotSpec
from vla.strict import parse, to_plain

CONFIG_FILE = "tandem.json"
SPEC_FILE = "robot_spec.yaml"
NORMALIZATION_FILE = "normalization.json"
ACTION_TOKENS_FILE = "action_tokens.json"
"""Only beside an S1 whose head is `fast`."""
FAST_FILE = "s1.safetensors"
ENGINE_FILE = "s1.onnx"
"""S1 once more, for CPUs, if `vla export` made it: of the same weights, and used instead of them."""
SLOW_FOLDER = "s2"
ROBOTS_FILE = "robots.json"
"""Only in a checkpoint of several robots (`vla.many`)."""

Images = Mapping[str, UInt8[np.ndarray, "H W 3"]]


@dataclass(frozen=True)
class TandemConfig:
    """replan_steps: control steps between two chunks of S1. max_words: tokens S2 may say about an image."""

    fast: FastConfig = field(default_factory=FastConfig)
    replan_steps: int = 4
    max_words: int = 32
    version: int = 1

    def __post_init__(self) -> None:
        if self.version != 1:
            raise ValueError(f"version is {self.version}, this program reads 1")
        if not 0 < self.replan_steps <= self.fast.horizon:
            raise ValueError(f"replan_steps is {self.replan_steps}, it must be 1 to fast.horizon ({self.fast.horizon})")


class TandemPolicy:
    """Both halves on one robot's units. `think` and `act` may be called from different threads.

    Raises UserError if the parts do not fit the robot or each other.
    """

    def __init__(
        self,
        spec: RobotSpec,
        s2: SlowSystem,
        s1: FastSystem,
        normalizer: Normalizer,
        config: TandemConfig,
        engine: Engine | None = None,
    ) -> None:
        self.spec, self.s2, self.s1, self.normalizer, self.config = spec, s2, s1, normalizer, config
        self.engine = engine
        for camera in (*s2.config.cameras, *s1.config.cameras):
            spec.camera(camera)
        sizes = {
            "normalization: state": (normalizer.state.size, spec.state_size),
            "normalization: action": (normalizer.action.size, spec.action_size),
            "S1: state": (s1.state_size, spec.state_size),
            "S1: action": (s1.action_size, spec.action_size),
        }
        for what, (size, wanted) in sizes.items():
            if size != wanted:
                raise UserError(f"policy: {what} has {size} entries, robot {spec.name} has {wanted}")
        if s1.latent_shape != s2.latent_shape:
            raise UserError(f"policy: S1 reads latents of shape {s1.latent_shape}, S2 leaves {s2.latent_shape}")

    @property
    def device(self) -> torch.device:
        return self.s2.device

    @property
    def robots(self) -> Mapping[str, TandemPolicy]:
        """Itself, under its robot's name: what `vla.many.ManyPolicy` has several of."""
        return {self.spec.name: self}

    def of_robot(self, robot: RobotSpec | str | None) -> TandemPolicy:
        """Itself; UserError if `robot`, or the robot of this name, is another."""
        if isinstance(robot, RobotSpec):
            self.spec.check_robot(robot)
        elif robot not in (None, self.spec.name):
            raise UserError(f"this policy is of robot {self.spec.name}, not of {robot}")
        return self

    def to(self, device: str | torch.device) -> TandemPolicy:
        self.s1.to(device)
        if torch.device(device).type != "cpu":
            self.engine = None
        self.s2.to(device)
        return self

    # --- at work -------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def think(
        self, images: Images, instruction: str, stamp: float, instruction_id: int = 0, words: bool = False
    ) -> Thought:
        """Look and read. stamp: capture time of the images in seconds; words: also say what is seen and due."""
        pixels = torch.stack([self._image(images, camera) for camera in self.s2.config.cameras], dim=1)
        latents, _ = self.s2.think(pixels, [instruction])
        asked = self.s2.config.words_prompt.format(instruction)
        text = self.s2.speak(pixels, [asked], self.config.max_words)[0] if words else None
        return Thought(latents[0].cpu(), stamp, instruction_id, text)

    @torch.inference_mode()
    def act(
        self,
        images: Images,
        state: Float[np.ndarray, " S"],
        thought: Thought | None,
        now: float,
        prefix: Float[np.ndarray, "P A"] | None = None,
    ) -> Float[np.ndarray, "H A"]:
        """A chunk in robot units, row 0 for the moment of the images.

        state: robot units. thought: None if there is none yet. now: capture time of the images on the clock of the
        thought's stamp. prefix: actions already committed from row 0 on, in robot units; they are repeated as given.
        """
        horizon, size = self.config.fast.horizon, self.spec.action_size
        if state.shape != (self.spec.state_size,):
            raise ValueError(f"a state of {self.spec.name} has {self.spec.state_size} entries, got shape {state.shape}")
        committed = np.zeros((0, size), np.float32) if prefix is None else np.asarray(prefix, np.float32)[:horizon]
        given = np.zeros((1, horizon, size), np.float32)
        given[0, : len(committed)] = self.normalizer.action.normalize(committed)
        latents = torch.zeros(self.s1.latent_shape) if thought is None else torch.as_tensor(thought.latents).float()
        age = float("nan") if thought is None else max(0.0, thought.age(now))

        device = self.device
        seen = {camera: self._image(images, camera) for camera in self.config.fast.cameras}
        rest = (
            torch.from_numpy(self.normalizer.state.normalize(state))[None].to(device),
            latents[None].to(device),
            torch.tensor([age], device=device),
            torch.from_numpy(given).to(device),
            torch.tensor([len(committed)], device=device),
        )
        chunk = self.engine.act(self.s1.pixels(seen), *rest) if self.engine else self.s1.act(seen, *rest)
        actions = self.normalizer.action.denormalize(chunk[0].float().cpu().numpy())
        if self.spec.action.gripper:
            gripper = self.spec.action_slices["gripper"]
            actions[:, gripper] = actions[:, gripper].clip(0, self.spec.gripper_top)
        actions[: len(committed)] = committed
        return actions

    def _image(self, images: Images, camera: str) -> UInt8[torch.Tensor, "1 H W 3"]:
        if camera not in images:
            raise UserError(f"this policy looks through camera {camera}, the observation has {', '.join(images)}")
        image = np.ascontiguousarray(images[camera])  # one that is seen mirrored is not
        return torch.tensor(image, dtype=torch.uint8)[None].to(self.device)

    # --- on disk -------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
        """Write the checkpoint whole or not at all; an older one there is replaced, other files beside it are kept.

        Raises UserError if `folder` holds something else or cannot be written.
        """
        write_whole(Path(folder), lambda partial: self._write(partial, dtype))

    def _write(self, folder: Path, dtype: torch.dtype) -> None:
        write_config(folder, self.config)
        self.write_robot(folder)
        write_weights(self.s1, folder / FAST_FILE, dtype)
        self.s2.save_pretrained(folder / SLOW_FOLDER, dtype)

    def write_robot(self, folder: Path) -> None:
        """What is of this robot alone, but for weights."""
        self.spec.save(folder / SPEC_FILE)
        (folder / NORMALIZATION_FILE).write_text(json.dumps(self.normalizer.to_dict(), indent=2) + "\n")
        if self.s1.action_tokens is not None:
            (folder / ACTION_TOKENS_FILE).write_text(json.dumps(to_plain(self.s1.action_tokens)) + "\n")

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        robot: RobotSpec | str | None = None,
        engine: bool = True,
        s2_dtype: torch.dtype | None = torch.float32,
    ) -> TandemPolicy:
        """Load a checkpoint in float32; UserError says which part is missing, damaged or does not fit.

        robot: what it is to drive, or the name of that; UserError if it was trained for another. One of several robots
        (`vla.many`) must be told which. engine: use the S1 for CPUs if there is one; not for what changes the weights.
        s2_dtype: as `SlowSystem.from_pretrained` takes it.
        """
        folder = Path(folder)
        what = checkpoint_at(folder)
        if (folder / ROBOTS_FILE).is_file():
            from vla.many import ManyPolicy

            return ManyPolicy.from_pretrained(folder, device, s2_dtype).of_robot(robot)
        config = read_config(folder)
        spec, normalizer, tokens = read_robot(folder, config.fast.head, what)
        s2 = SlowSystem.from_pretrained(folder / SLOW_FOLDER, s2_dtype)
        s1 = FastSystem(config.fast, spec.state_size, spec.action_size, s2.latent_shape, tokens)
        load_weights(s1, folder / FAST_FILE, what)
        fast = None
        if engine and (folder / ENGINE_FILE).is_file() and torch.device(device).type == "cpu":
            fast = Engine(folder / ENGINE_FILE, weights_digest(folder))
        return cls(spec, s2.eval(), s1.eval(), normalizer, config, fast).to(device).of_robot(robot)


def checkpoint_at(folder: Path) -> str:
    """What errors call it; UserError if there is no such folder."""
    if not folder.is_dir():
        raise UserError(f"checkpoint {folder}: there is no such folder")
    return f"checkpoint {folder}"


def read_config(folder: Path) -> TandemConfig:
    what = checkpoint_at(folder)
    return parse(TandemConfig, read_json(folder / CONFIG_FILE, what), f"{what}: {CONFIG_FILE}")


def read_robot(folder: Path, head: str, what: str) -> tuple[RobotSpec, Normalizer, FastTokens | None]:
    """What `TandemPolicy.write_robot` wrote; UserError says what is missing or damaged."""
    if not (folder / SPEC_FILE).is_file():
        raise UserError(f"{what}: {SPEC_FILE} is missing")
    spec = RobotSpec.load(folder / SPEC_FILE)
    where = f"{what}: {NORMALIZATION_FILE}"
    normalizer = Normalizer.from_dict(read_json(folder / NORMALIZATION_FILE, what), where)
    if head != "fast":
        return spec, normalizer, None
    where = f"{what}: {ACTION_TOKENS_FILE}"
    return spec, normalizer, parse(FastTokens, read_json(folder / ACTION_TOKENS_FILE, what), where)


def write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Make `folder` a checkpoint by `write`, as `TandemPolicy.save_pretrained` promises.

    Of several processes the first writes there; others, of which it needs their parts of the weights, to nowhere.
    """
    if not my_rank().leads:
        with TemporaryDirectory() as nowhere:
            write(Path(nowhere))
        return
    if folder.name in ("", ".."):
        raise UserError(f"checkpoint: {folder} cannot be replaced by a new folder; give one by its name")
    if folder.exists() and not (folder / CONFIG_FILE).is_file() and any(folder.iterdir()):
        raise UserError(f"checkpoint: {folder} holds something else; choose another folder")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        partial.mkdir(parents=True)
        write(partial)
        if folder.exists():
            _keep_others(folder, partial)
            folder.rename(old)
        partial.rename(folder)
    except OSError as error:
        raise UserError(f"checkpoint: cannot write to {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_config(folder: Path, config: TandemConfig) -> None:
    (folder / CONFIG_FILE).write_text(json.dumps(to_plain(config), indent=2) + "\n")


def write_weights(model: nn.Module, path: Path, dtype: torch.dtype) -> None:
    save_file({n: t.detach().to("cpu", dtype).contiguous() for n, t in model.state_dict().items()}, path)


def weights_digest(folder: Path) -> str:
    """Which weights S1 has in a checkpoint, and in how many steps head flow uses them: an engine is of both."""
    fast = read_config(folder).fast
    steps = f", {fast.flow_steps} steps" if fast.head == "flow" else ""
    return hashlib.sha256((folder / FAST_FILE).read_bytes()).hexdigest() + steps


def _keep_others(old: Path, new: Path) -> None:
    """Copy what lies beside a checkpoint, such as its model card; not what was made of the old weights or robots."""
    made = (ENGINE_FILE, ROBOTS_FILE, SPEC_FILE, NORMALIZATION_FILE, ACTION_TOKENS_FILE)
    for item in old.iterdir():
        if item.is_file() and item.name not in made and not (new / item.name).exists():
            shutil.copy2(item, new / item.name)


def read_json(path: Path, what: str) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{what}: {path.name} is missing") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{what}: {path.name} cannot be read: {error}") from None


def load_weights(model: nn.Module, path: Path, what: str) -> None:
    if not path.is_file():
        raise UserError(f"{what}: {path.name} is missing")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{what}: {path.name} is damaged ({error}); save or download it again") from None
    own = model.state_dict()
    wrong = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    if wrong or len(weights) > len(own):
        names: Sequence[str] = wrong or sorted(set(weights) - set(own))
        raise UserError(f"{what}: {path.name} does not fit {CONFIG_FILE} and {SPEC_FILE}: {names[0]} differs")
    model.load_state_dict(weights)
