"""One policy for several robots: one S2, one S1 trunk, and of each robot its spec, its units and its own ends of S1.

The folder of such a checkpoint:
    tandem.json, s1.safetensors, s2/   as of one robot
    robots.json                        robot -> which of its cameras is in which slot, for S1 and S2
    robots/NAME/                       its robot_spec.yaml, normalization.json (and action_tokens.json)
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vla.actions.fast import FastTokens
from vla.actions.normalize import Normalizer
from vla.errors import UserError
from vla.s1.shared import Body, SharedFastSystem
from vla.s2.system import SlowSystem
from vla.spec import RobotSpec
from vla.tandem import (
    FAST_FILE,
    ROBOTS_FILE,
    SLOW_FOLDER,
    TandemConfig,
    TandemPolicy,
    checkpoint_at,
    load_weights,
    read_config,
    read_json,
    read_robot,
    write_config,
    write_weights,
    write_whole,
)

ROBOTS_FOLDER = "robots"
VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Embodiment:
    """A robot of several. cameras: slot -> its camera, for the slots it fills."""

    spec: RobotSpec
    normalizer: Normalizer
    cameras: Mapping[str, str]
    action_tokens: FastTokens | None = None

    def body(self, slots: tuple[str, ...]) -> Body:
        cameras = {slot: camera for slot, camera in self.cameras.items() if slot in slots}
        return Body(self.spec.state_size, self.spec.action_size, cameras, self.action_tokens)


HOW_TO_NAME = "say in the recipe, under robots, which of its cameras that is"


def cameras_in_slots(spec: RobotSpec, slots: tuple[str, ...], given: Mapping[str, str]) -> dict[str, str]:
    """Slot -> camera: as `given`, else the camera of the slot's name if there is one and it is not given elsewhere.

    Raises UserError for a slot or camera that does not exist.
    """
    for slot, camera in given.items():
        if slot not in slots:
            raise UserError(f"robot {spec.name}: there is no camera slot {slot}; there are {', '.join(slots)}")
        spec.camera(camera)
    free = set(spec.camera_names) - set(given.values())
    return {slot: given.get(slot, slot) for slot in slots if slot in given or slot in free}


def check_embodiment(name: str, cameras: Mapping[str, str], seen: tuple[str, ...]) -> None:
    """UserError for a name that cannot be a folder's, or an empty slot among those that S2 sees."""
    if not _NAME.fullmatch(name):
        raise UserError(f"robot spec: name is {name!r}; beside other robots it must be of letters, digits, - and _")
    empty = [slot for slot in seen if slot not in cameras]
    if empty:
        raise UserError(f"robot {name} has no camera {empty[0]}, which S2 looks through: {HOW_TO_NAME}")


class ManyPolicy:
    """What is trained and saved; to drive, `of_robot` gives the policy of one robot, made of the same weights.

    Raises UserError if a robot lacks a camera that S2 looks through or has a name that cannot be a folder's.
    """

    def __init__(
        self, embodiments: Mapping[str, Embodiment], s2: SlowSystem, shared: SharedFastSystem, config: TandemConfig
    ) -> None:
        self.embodiments, self.s2, self.shared, self.config = dict(embodiments), s2, shared, config
        self.robots: Mapping[str, TandemPolicy] = {name: self._policy(name, one) for name, one in embodiments.items()}

    def _policy(self, name: str, one: Embodiment) -> TandemPolicy:
        check_embodiment(name, one.cameras, self.s2.config.cameras)
        s2 = copy.copy(self.s2)  # of the same weights
        s2.config = replace(s2.config, cameras=tuple(one.cameras[slot] for slot in self.s2.config.cameras))
        s1 = self.shared.of(name)
        return TandemPolicy(one.spec, s2, s1, one.normalizer, replace(self.config, fast=s1.config))

    def to(self, device: str | torch.device) -> ManyPolicy:
        self.shared.to(device)
        self.s2.to(device)
        return self

    def of_robot(self, robot: RobotSpec | str | None) -> TandemPolicy:
        """The policy for this robot, or one of this name; UserError names those there are if it is none of them."""
        there = ", ".join(self.robots)
        if robot is None:
            raise UserError(
                f"this policy is of several robots ({there}): make a policy of one of them with vla export --robot "
                "NAME; vla serve takes --robot NAME too"
            )
        name = robot if isinstance(robot, str) else robot.name
        if name not in self.robots:
            raise UserError(f"this policy is of the robots {there}; {name} is none of them")
        return self.robots[name].of_robot(robot)

    # --- on disk -------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
        """As `TandemPolicy.save_pretrained`."""
        write_whole(Path(folder), lambda partial: self._write(partial, dtype))

    def _write(self, folder: Path, dtype: torch.dtype) -> None:
        write_config(folder, self.config)
        robots = {name: {"cameras": dict(one.cameras)} for name, one in self.embodiments.items()}
        (folder / ROBOTS_FILE).write_text(json.dumps({"version": VERSION, "robots": robots}, indent=2) + "\n")
        for name, one in self.robots.items():
            (folder / ROBOTS_FOLDER / name).mkdir(parents=True)
            one.write_robot(folder / ROBOTS_FOLDER / name)
        write_weights(self.shared, folder / FAST_FILE, dtype)
        self.s2.save_pretrained(folder / SLOW_FOLDER, dtype)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, device: str | torch.device = "cpu", s2_dtype: torch.dtype | None = torch.float32
    ) -> ManyPolicy:
        """As `TandemPolicy.from_pretrained`, all robots of it."""
        folder = Path(folder)
        what, config = checkpoint_at(folder), read_config(folder)
        embodiments = {}
        for name, cameras in _read_cameras(folder, what).items():
            there = f"{what}: {ROBOTS_FOLDER}/{name}"
            spec, normalizer, tokens = read_robot(folder / ROBOTS_FOLDER / name, config.fast.head, there)
            embodiments[name] = Embodiment(spec, normalizer, cameras, tokens)
        s2 = SlowSystem.from_pretrained(folder / SLOW_FOLDER, s2_dtype)
        bodies = {name: one.body(config.fast.cameras) for name, one in embodiments.items()}
        shared = SharedFastSystem(config.fast, bodies, s2.latent_shape)
        load_weights(shared, folder / FAST_FILE, what)
        return cls(embodiments, s2.eval(), shared.eval(), config).to(device)


def open_policy(folder: str | Path, s2_dtype: torch.dtype | None = torch.float32) -> TandemPolicy | ManyPolicy:
    """A checkpoint of one robot or of several, to be trained; UserError as they raise it.

    s2_dtype: as `SlowSystem.from_pretrained` takes it.
    """
    if (Path(folder) / ROBOTS_FILE).is_file():
        return ManyPolicy.from_pretrained(folder, s2_dtype=s2_dtype)
    return TandemPolicy.from_pretrained(folder, engine=False, s2_dtype=s2_dtype)


def _read_cameras(folder: Path, what: str) -> dict[str, dict[str, str]]:
    """Robot -> slot -> camera."""
    read = read_json(folder / ROBOTS_FILE, what)
    try:
        if read["version"] != VERSION:  # type: ignore[index]
            raise UserError(f"{what}: {ROBOTS_FILE} is of version {read['version']}, not {VERSION}")  # type: ignore[index]
        return {
            str(name): {str(slot): str(camera) for slot, camera in one["cameras"].items()}
            for name, one in read["robots"].items()  # type: ignore[index]
            if _NAME.fullmatch(name)
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{what}: {ROBOTS_FILE} is damaged ({error!r})") from None
