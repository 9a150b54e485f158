"""Dataset cards: what a published dataset's features mean, in place of code for each dataset.

A card (`datasets/NAME.yaml`) says which picture is which camera, which numbers make up state and action, in which
units, frames and representations once its operations are done, where the instruction is, and where all this is known
from. Keys are paths inside a step (RLDS) or an episode (HDF5), such as `observation/state`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from vla import assets
from vla.data.operations import Operation, parse_operation
from vla.spec import ActionSpec, Camera, Field, Gripper, RobotSpec, Rotation, Unit
from vla.strict import parse, read_yaml

Array = Float[np.ndarray, "T D"]
NEARLY = 0.1
"""Of the width of a range: how far beyond it is still noise."""


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from, and where its features were read."""

    url: str
    features: str
    licence: str


@dataclass(frozen=True)
class CardCamera:
    """The picture under `key` as camera `name`; size: (height, width) as published, for where features.json is open.

    flip: what puts a stored picture upright: `vertical`, if its bottom row comes first, as OpenGL reads pictures out;
    `rotate_180`. colour: the order of its channels once decoded; what is imported is RGB.
    """

    name: str
    key: str
    mount: Literal["fixed", "wrist"] = "fixed"
    size: tuple[int, int] | None = None
    flip: Literal["vertical", "rotate_180"] | None = None
    colour: Literal["rgb", "bgr"] = "rgb"

    def upright(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) as stored, to upright RGB."""
        if self.flip:
            image = image[::-1] if self.flip == "vertical" else image[::-1, ::-1]
        return np.ascontiguousarray(image if self.colour == "rgb" else image[..., ::-1])


@dataclass(frozen=True)
class CardField:
    """A field of the state or action: the values under `keys`, side by side, after the operations of `do`.

    range: (low, high) that its values keep to; an import tells when they do not.
    """

    name: str
    size: int
    unit: Unit
    keys: tuple[str, ...]
    do: tuple[object, ...] = ()
    frame: str | None = None
    rotation: Rotation | None = None
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("keys is empty")
        _ = self.spec

    @property
    def spec(self) -> Field:
        return Field(self.name, self.size, self.unit, self.frame, self.rotation)

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        return tuple(parse_operation(item, "card", f"{self.name}.do[{i}]") for i, item in enumerate(self.do))

    def apply(self, values: Mapping[str, np.ndarray]) -> Array:
        """From the values of every key, (T, ...) each, to (T', size) float32. Raises ValueError if they do not fit."""
        flat = [np.asarray(values[key]).reshape(len(values[key]), -1) for key in self.keys]
        result = np.concatenate(flat, axis=1) if len(flat) > 1 else flat[0]
        if result.dtype.kind != "f":
            result = result.astype(np.float32)
        for operation in self.operations:
            result = operation(result)
        if result.shape[1] != self.size:
            raise ValueError(f"{self.name} comes out with {result.shape[1]} entries, the card says {self.size}")
        return result.astype(np.float32, copy=False)

    def in_range(self, values: Array) -> bool:
        if self.range is None or not len(values):
            return True
        low, high = self.range
        slack = NEARLY * (high - low)
        return bool(values.min() >= low - slack and values.max() <= high + slack)


@dataclass(frozen=True)
class CardAction:
    """What one command means, as in a robot spec.

    shift: how many steps later than what was seen before it a command is stored; the last steps have none and go.
    """

    mode: Literal["ee_delta", "ee_pose", "joint_position", "joint_velocity"]
    fields: tuple[CardField, ...]
    gripper: Gripper | None = None
    shift: int = 0

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"shift is {self.shift}; it must not be negative")
        _ = self.spec

    @property
    def spec(self) -> ActionSpec:
        return ActionSpec(self.mode, tuple(field.spec for field in self.fields), self.gripper)


@dataclass(frozen=True)
class Filters:
    """What is left out: the first steps of every episode; episodes where a truth value (a key inside the episode) is
    false; episodes without an instruction."""

    skip_first: int = 0
    only_where: tuple[str, ...] = ()
    with_instruction: bool = False


@dataclass(frozen=True)
class Card:
    """One dataset. verified: its features were looked up where `source.features` says; else it is a good guess.

    robot: the name its spec gets. instruction: keys of text; the first that is not empty counts. In HDF5 a key may also
    lead into an attribute of the episode or of a group above it: `problem_info/language_instruction`.
    """

    name: str
    robot: str
    verified: bool
    source: Source
    rate_hz: float
    cameras: tuple[CardCamera, ...]
    state: tuple[CardField, ...]
    action: CardAction
    instruction: tuple[str, ...]
    filters: Filters = Filters()

    def __post_init__(self) -> None:
        if self.rate_hz < 1 or self.rate_hz != round(self.rate_hz):
            raise ValueError(f"rate_hz must be a whole number, as LeRobot's frame rates are; it is {self.rate_hz}")
        _ = self.spec({camera.name: (1, 1) for camera in self.cameras})
        for field in self.fields:
            _ = field.operations

    @classmethod
    def load(cls, name: str | Path) -> Card:
        """A shipped card by its name, or the file at a path. Raises UserError for what is not as a card should be."""
        path = assets.find("card", name)
        return parse(cls, read_yaml(path, "card"), f"card {path.stem}")

    @property
    def fields(self) -> tuple[CardField, ...]:
        return (*self.state, *self.action.fields)

    def spec(self, sizes: Mapping[str, tuple[int, int]]) -> RobotSpec:
        """The spec of datasets imported by this card; sizes: camera -> (height, width)."""
        return RobotSpec(
            name=self.robot,
            rate_hz=self.rate_hz,
            cameras=tuple(Camera(camera.name, *sizes[camera.name], mount=camera.mount) for camera in self.cameras),
            state=tuple(field.spec for field in self.state),
            action=self.action.spec,
        )
