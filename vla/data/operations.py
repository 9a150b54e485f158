"""The operations of a dataset card: from the numbers a dataset holds to those its robot spec promises.

Each is a pure function of one episode's values, (T, D) float to (T', D'), and a frozen dataclass of its parameters.
In a card: `{select: [0, 1, 2]}`, `{clip: {low: 0, high: 1}}`, or just `invert`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from jaxtyping import Float

from vla.actions import rotations
from vla.errors import UserError
from vla.spec import ROTATION_SIZES, Rotation
from vla.strict import parse

Array = Float[np.ndarray, "T D"]


class Operation(Protocol):
    def __call__(self, values: Array, /) -> Array: ...


@dataclass(frozen=True)
class Select:
    """These entries, in this order."""

    indices: tuple[int, ...]

    def __call__(self, values: Array) -> Array:
        if not all(0 <= index < values.shape[1] for index in self.indices):
            raise ValueError(f"select {list(self.indices)} of {values.shape[1]} entries")
        return values[:, list(self.indices)]


@dataclass(frozen=True)
class Scale:
    """Times `factor`: to radians, metres, or per step."""

    factor: float

    def __call__(self, values: Array) -> Array:
        return values * self.factor


@dataclass(frozen=True)
class Offset:
    """Plus `amount`."""

    amount: float

    def __call__(self, values: Array) -> Array:
        return values + self.amount


@dataclass(frozen=True)
class Clip:
    """Kept within [low, high]."""

    low: float
    high: float

    def __call__(self, values: Array) -> Array:
        return np.clip(values, self.low, self.high)


@dataclass(frozen=True)
class Invert:
    """1 - x: of a gripper between 0 and 1, open becomes closed."""

    def __call__(self, values: Array) -> Array:
        return 1 - values


@dataclass(frozen=True)
class SumHalves:
    """The first half of the entries plus the second: what is there, and what is to be added to it."""

    def __call__(self, values: Array) -> Array:
        first, second = np.split(values, 2, axis=1)
        return first + second


@dataclass(frozen=True)
class Pad:
    """`size` more entries of `value` at the end: what the robot does not move along."""

    size: int
    value: float = 0.0

    def __call__(self, values: Array) -> Array:
        return np.pad(values, ((0, 0), (0, self.size)), constant_values=self.value)


@dataclass(frozen=True)
class Binarise:
    """0 below `low`, 1 above `high`; what lies between is on its way and takes the value it arrives at.

    What is still on its way at the end takes the nearer of the two (after OpenVLA, which keeps the last value).
    """

    low: float = 0.05
    high: float = 0.95

    def __call__(self, values: Array) -> Array:
        settled = (values < self.low) | (values > self.high)
        binary = (values > (self.low + self.high) / 2).astype(values.dtype)
        # For each step the first settled one from there on; the last step if there is none.
        steps = np.arange(len(values))[:, None]
        ahead = np.where(settled, steps, len(values) - 1)
        ahead = np.minimum.accumulate(ahead[::-1], axis=0)[::-1]
        return np.take_along_axis(binary, ahead, axis=0)


@dataclass(frozen=True)
class RelToAbsGripper:
    """Commands to close (above `threshold`), open (below -`threshold`) or neither, to 1 = open, 0 = closed.

    Before the first command the gripper is in the other state than that brings it to; without any it is open
    (after OpenVLA).
    """

    threshold: float = 0.1

    def __call__(self, values: Array) -> Array:
        moves = np.abs(values) > self.threshold
        steps = np.arange(len(values))[:, None]
        last = np.maximum.accumulate(np.where(moves, steps, -1), axis=0)
        opened = (values < 0).astype(values.dtype)
        first = np.argmax(moves, axis=0)[None]
        start = np.where(moves.any(0), 1 - np.take_along_axis(opened, first, axis=0), 1)
        return np.where(last < 0, start, np.take_along_axis(opened, last.clip(0), axis=0))


@dataclass(frozen=True)
class Rotate:
    """From one representation of a rotation to another (vla.actions.rotations)."""

    source: Rotation
    target: Rotation

    def __call__(self, values: Array) -> Array:
        _check_rotation(values, self.source)
        return rotations.convert(values, self.source, self.target)


@dataclass(frozen=True)
class EulerToAxisAngle:
    """Roll, pitch, yaw about the fixed axes."""

    def __call__(self, values: Array) -> Array:
        return Rotate("rpy", "axis_angle")(values)


@dataclass(frozen=True)
class QuatToAxisAngle:
    """xyzw."""

    def __call__(self, values: Array) -> Array:
        return Rotate("quaternion_xyzw", "axis_angle")(values)


@dataclass(frozen=True)
class QuatToRot6d:
    """xyzw."""

    def __call__(self, values: Array) -> Array:
        return Rotate("quaternion_xyzw", "rot6d")(values)


@dataclass(frozen=True)
class RelabelFromReachedState:
    """From states to the deltas that were in truth made: (T, D) to (T - 1, D); the last step has none and goes.

    With `rotation`, the turn in the base frame that leads from one state to the next, in the same representation:
    differences of angles are wrong near their ends.
    """

    rotation: Rotation | None = None

    def __call__(self, values: Array) -> Array:
        if self.rotation is None:
            return np.diff(values, axis=0)
        _check_rotation(values, self.rotation)
        matrices = rotations.TO_MATRIX[self.rotation](np.asarray(values, np.float64))
        turns = matrices[1:] @ np.swapaxes(matrices[:-1], -1, -2)
        return rotations.FROM_MATRIX[self.rotation](turns)


OPERATIONS: Mapping[str, type[Operation]] = {
    "select": Select,
    "scale": Scale,
    "offset": Offset,
    "clip": Clip,
    "invert": Invert,
    "sum_halves": SumHalves,
    "pad": Pad,
    "binarise": Binarise,
    "rel_to_abs_gripper": RelToAbsGripper,
    "rotate": Rotate,
    "euler_to_axis_angle": EulerToAxisAngle,
    "quat_to_axis_angle": QuatToAxisAngle,
    "quat_to_rot6d": QuatToRot6d,
    "relabel_from_reached_state": RelabelFromReachedState,
}


def parse_operation(data: object, what: str, path: str) -> Operation:
    """`name`, `{name: parameters}`, or `{name: value}` for its first parameter. Raises UserError naming `path`."""
    name, given = next(iter(data.items())) if isinstance(data, Mapping) and len(data) == 1 else (data, {})
    if not isinstance(name, str) or name not in OPERATIONS:
        raise UserError(f"{what}: {path} is no operation: {name!r}; there are: {', '.join(OPERATIONS)}")
    kind = OPERATIONS[name]
    parameters = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if not isinstance(given, Mapping) and parameters:
        given = {parameters[0]: given}
    return parse(kind, given, what, f"{path}.{name}")


def _check_rotation(values: Array, rotation: Rotation) -> None:
    if values.shape[1] != ROTATION_SIZES[rotation]:
        raise ValueError(f"{rotation} has {ROTATION_SIZES[rotation]} entries, not {values.shape[1]}")
