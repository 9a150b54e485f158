"""`RobotSpec`: the contract between data, model and robot.

Most silent failures of a policy are conventions that differ: rotation order, gripper sign, units, frames. So they
are typed, travel with every dataset (`meta/robot_spec.yaml`) and checkpoint, and differing ones are an error.
Radians, metres and seconds throughout (REP-103), but for states and actions in degrees and percent, as LeRobot's motors
record them. Limits and kinematics are in rad always: joints in percent of an unknown range have neither.
"""

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from jaxtyping import Float

from vla import assets
from vla.errors import UserError
from vla.strict import parse, read_yaml, to_plain

Rotation = Literal["rot6d", "axis_angle", "quaternion_xyzw", "rpy", "matrix"]
Unit = Literal["rad", "m", "1", "rad/s", "m/s", "N", "Nm", "deg", "%"]
Gripper = Literal["1 = open, 0 = closed", "0 = open, 1 = closed"]

ROS_EXTRAS = ("clock", "reset", "instruction", "outcome")
"""Streams beside sensors and commands: the robot's time if it is not the wall's (Clock); to a simulated robot, the
seed of a new episode (Int64) and what is asked of it (String); from it, what has become of that (String, JSON)."""

MOST_DIFFERENCES = 3
"""That are told one by one when a policy does not fit a robot."""
ROTATION_SIZES = {"rot6d": 6, "axis_angle": 3, "quaternion_xyzw": 4, "rpy": 3, "matrix": 9}


@dataclass(frozen=True)
class Camera:
    """One camera; images are (height, width, 3) uint8 in `colour` order."""

    name: str
    height: int
    width: int
    colour: Literal["rgb", "bgr"] = "rgb"
    mount: Literal["fixed", "wrist"] = "fixed"

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            _require(getattr(self, name) > 0, f"{name} must be positive, is {getattr(self, name)}")

    @property
    def key(self) -> str:
        """Name of its feature in a LeRobot dataset."""
        return f"observation.images.{self.name}"


@dataclass(frozen=True)
class Field:
    """Consecutive entries of a state or action vector that belong together.

    frame: what positions and rotations are expressed in; rotation: how a rotation is written, else None.
    """

    name: str
    size: int
    unit: Unit
    frame: str | None = None
    rotation: Rotation | None = None

    def __post_init__(self) -> None:
        _require(self.size > 0, f"size must be positive, is {self.size}")
        if self.rotation:
            size = ROTATION_SIZES[self.rotation]
            _require(self.size == size, f"size is {self.size}, a {self.rotation} rotation has {size}")

    @property
    def whole(self) -> float:
        """What a share of the whole says at its upper end: 100 in percent."""
        return 100.0 if self.unit == "%" else 1.0


@dataclass(frozen=True)
class ActionSpec:
    """What one command means; `gripper` is the convention of the field of that name, None without one."""

    mode: Literal["ee_delta", "ee_pose", "joint_position", "joint_velocity"]
    fields: tuple[Field, ...]
    gripper: Gripper | None = None

    def __post_init__(self) -> None:
        _unique("fields", self.fields)
        has_gripper = any(field.name == "gripper" for field in self.fields)
        _require(has_gripper == (self.gripper is not None), "gripper and a field named gripper go together")

    @property
    def is_relative(self) -> bool:
        """Whether zero means "stay": a delta or a velocity, as against a pose."""
        return self.mode in ("ee_delta", "joint_velocity")


@dataclass(frozen=True)
class Kinematics:
    """What inverse kinematics and the safety gate need: `model` is an MJCF or URDF file (see docs/lerobot.md), as
    `vla.assets` finds it."""

    model: str
    base_frame: str
    tool_frame: str
    joints: tuple[str, ...]


@dataclass(frozen=True)
class Box:
    """Where the tool may be, in metres in the base frame: (low, high) per axis."""

    x: tuple[float, float]
    y: tuple[float, float]
    z: tuple[float, float]

    def __post_init__(self) -> None:
        for axis in "xyz":
            _interval(axis, getattr(self, axis))


@dataclass(frozen=True)
class Limits:
    """Per joint: position (low, high) rad, velocity rad/s, acceleration rad/s^2, jerk rad/s^3; the tool's in metres."""

    position: tuple[tuple[float, float], ...]
    velocity: tuple[float, ...]
    acceleration: tuple[float, ...]
    jerk: tuple[float, ...]
    tool_speed: float
    workspace: Box
    gripper: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for i, bounds in enumerate(self.position):
            _interval(f"position[{i}]", bounds)
        for name in ("velocity", "acceleration", "jerk"):
            values = getattr(self, name)
            joints, own = len(self.position), len(values)
            _require(own == joints, f"{name} has {own} joints, position {joints}")
            for i, value in enumerate(values):
                _positive(f"{name}[{i}]", value)
        _positive("tool_speed", self.tool_speed)
        if self.gripper:
            _interval("gripper", self.gripper)


@dataclass(frozen=True)
class RosStream:
    """Where one part of the robot lives in ROS.

    stream: a camera, "state" or "action" (the whole vector), one field of these ("state.gripper"), or one of
    `ROS_EXTRAS`. fields: what to take of the message, in the spec's order: joint names of a JointState or
    JointTrajectory, paths such as "pose.position" elsewhere. stamp: when a message counts: at the time in its header,
    or when it arrives. max_age: seconds after which it is stale. value in the spec's unit = scale * message + offset.
    """

    stream: str
    topic: str
    type: str
    fields: tuple[str, ...] = ()
    qos: Literal["sensor", "reliable", "transient_local"] = "sensor"
    stamp: Literal["header", "receive"] = "header"
    max_age: float = 0.5
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        _require(bool(re.fullmatch(r"(/[A-Za-z_]\w*)+", self.topic)), f"topic {self.topic!r} is no absolute ROS name")
        _require(
            bool(re.fullmatch(r"[a-z]\w*/msg/[A-Z]\w*", self.type)),
            f"type {self.type!r} is not written as package/msg/Type",
        )
        _positive("max_age", self.max_age)
        _require(self.scale != 0 and math.isfinite(self.scale), f"scale must be finite and not zero, is {self.scale}")
        _require(math.isfinite(self.offset), f"offset must be finite, is {self.offset}")


@dataclass(frozen=True)
class RobotSpec:
    """Cameras, state, action, kinematics, rate and limits of one robot."""

    name: str
    rate_hz: float
    cameras: tuple[Camera, ...]
    state: tuple[Field, ...]
    action: ActionSpec
    kinematics: Kinematics | None = None
    limits: Limits | None = None
    ros: tuple[RosStream, ...] = ()

    def __post_init__(self) -> None:
        _positive("rate_hz", self.rate_hz)
        _unique("cameras", self.cameras)
        _unique("state", self.state)
        _require(bool(self.state), "state has no fields")
        _require(bool(self.action.fields), "action.fields is empty")
        fields = (*self.state, *self.action.fields)
        foreign = [field.name for field in fields if field.unit == "%" and not field.name.endswith("gripper")]
        if foreign and (self.limits or self.kinematics):
            raise ValueError(f"limits and kinematics need rad or deg, {foreign[0]} is in %")
        if self.limits and self.kinematics:
            joints, bounds = len(self.kinematics.joints), len(self.limits.position)
            _require(bounds == joints, f"limits.position has {bounds} joints, kinematics.joints {joints}")

    @classmethod
    def from_dict(cls, data: Any, where: str = "") -> "RobotSpec":
        """Strict: an unknown key, a missing one or a wrong type is a UserError that names its path."""
        return parse(cls, data, f"robot spec{' ' + where if where else ''}")

    @classmethod
    def load(cls, path: str | Path) -> "RobotSpec":
        """A model that lies beside the file is named by its whole path then; a shipped one by its name."""
        spec = cls.from_dict(read_yaml(Path(path), "robot spec"), str(path))
        if spec.kinematics is None:
            return spec
        model = Path(path).absolute().parent / spec.kinematics.model
        if not model.is_file() or assets.is_shipped("robot", model):
            return spec
        return replace(spec, kinematics=replace(spec.kinematics, model=str(model)))

    def to_dict(self) -> dict[str, Any]:
        return to_plain(self)

    def save(self, path: str | Path) -> None:
        """Write the YAML whole or not at all."""
        target = Path(path)
        text = yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None, width=120)
        assets.write_file(target, text, "robot spec")

    @property
    def fps(self) -> int:
        """rate_hz as LeRobot counts it; UserError for a fraction, which its time stamps cannot express."""
        if self.rate_hz != round(self.rate_hz):
            raise UserError(f"robot {self.name}: rate_hz is {self.rate_hz:g}; datasets want a whole number")
        return round(self.rate_hz)

    @property
    def state_size(self) -> int:
        return sum(field.size for field in self.state)

    @property
    def action_size(self) -> int:
        return sum(field.size for field in self.action.fields)

    @cached_property
    def state_slices(self) -> dict[str, slice]:
        """Where each field sits in the state vector."""
        return field_slices(self.state)

    @cached_property
    def action_slices(self) -> dict[str, slice]:
        """Where each field sits in the action vector."""
        return field_slices(self.action.fields)

    @property
    def gripper_top(self) -> float:
        """What the action's gripper says where its convention says 1: 100 if it is in percent."""
        return next((field.whole for field in self.action.fields if field.name == "gripper"), 1.0)

    @property
    def camera_names(self) -> tuple[str, ...]:
        return tuple(camera.name for camera in self.cameras)

    def camera(self, name: str) -> Camera:
        """The camera of that name; UserError if the robot has none."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise UserError(f"robot spec: {self.name} has no camera {name!r}; it has {', '.join(self.camera_names)}")

    def hold_action(self, last: Float[np.ndarray, "A"]) -> Float[np.ndarray, "A"]:
        """The command for "no motion" after `last`: zero for deltas and velocities, the gripper kept; else `last`."""
        if last.shape != (self.action_size,):
            raise ValueError(f"an action of {self.name} has {self.action_size} entries, got shape {last.shape}")
        if not self.action.is_relative:
            return last.copy()
        hold = np.zeros_like(last)
        if self.action.gripper:
            gripper = self.action_slices["gripper"]
            hold[gripper] = last[gripper]
        return hold

    def check_ros(self) -> None:
        """UserError unless every entry of `ros` is for something the robot has, once, and topics are used one way."""
        fields = [f"state.{f.name}" for f in self.state] + [f"action.{f.name}" for f in self.action.fields]
        known = [*self.camera_names, "state", "action", *fields, *ROS_EXTRAS]
        try:
            _unique("ros", self.ros)
            for one in self.ros:
                near = difflib.get_close_matches(one.stream, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
                _require(one.stream in known, f"ros names {one.stream}, which the robot does not have; {hint}")
                for other in self.ros:
                    same = other.topic != one.topic or (other.type, other.qos) == (one.type, one.qos)
                    _require(same, f"ros: {one.topic} differs in type or qos between {one.stream} and {other.stream}")
        except ValueError as error:
            raise UserError(f"robot spec: {error}") from None

    def diff(self, other: "RobotSpec", other_name: str = "the other", whole: bool = False) -> list[str]:
        """One line per entry that differs, such as `action.fields[2].size is 2, the other has 1 (gripper)`.

        whole: compare also what makes no other robot: where it lives in ROS, its limits, where its model lies, and
        kinematics of which only one of the two says something.
        """
        mine, theirs = (spec.to_dict() for spec in (self, other))
        beside = ("ros", "limits") if self.kinematics and other.kinematics else ("ros", "limits", "kinematics")
        for plain in () if whole else (mine, theirs):
            for name in beside:
                plain.pop(name, None)
            plain.get("kinematics", {}).pop("model", None)
        return list(_differences("", mine, theirs, other_name))

    def check_robot(self, robot: "RobotSpec") -> None:
        """UserError if `robot` is not what a policy trained for this spec may drive: with the entries that differ, or
        with what each robot is where they are many. The limits are the robot's own.
        """
        differing = self.diff(robot, "the robot")
        if len(differing) > MOST_DIFFERENCES:
            both = f"{self.summary}; and this is {robot.summary}; vla spec diff lists what differs"
            raise UserError(f"this policy was trained for another robot: {both}")
        if differing:
            raise UserError(f"this policy was trained for another robot: {'; '.join(differing)}")

    @property
    def summary(self) -> str:
        """The robot in one line."""
        cameras = ", ".join(f"{camera.name} {camera.width}x{camera.height}" for camera in self.cameras) or "none"
        return (
            f"{self.name}: cameras {cameras}; state {self.state_size}; action {self.action_size} ({self.action.mode})"
        )


def field_slices(fields: Iterable[Field]) -> dict[str, slice]:
    """Name -> slice of each field in the vector they make up."""
    fields = tuple(fields)
    ends = [0]
    for field in fields:
        ends.append(ends[-1] + field.size)
    return {field.name: slice(a, b) for field, (a, b) in zip(fields, pairwise(ends), strict=True)}


def si_scale(fields: Iterable[Field]) -> Float[np.ndarray, "D"]:
    """What each entry of a vector is multiplied with to be in rad, metres, or shares of 1."""
    scales = {"deg": math.pi / 180, "%": 0.01}
    return np.array([scales.get(field.unit, 1.0) for field in fields for _ in range(field.size)])


def dimension_names(fields: Iterable[Field]) -> list[str]:
    """One name per entry of a vector, as LeRobot's `names`: `ee_position.0`, ..., `gripper`."""
    return [f.name if f.size == 1 else f"{f.name}.{i}" for f in fields for i in range(f.size)]


def _differences(path: str, mine: Any, theirs: Any, other: str, name: str = "") -> Iterable[str]:
    note = f" ({name})" if name else ""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        inner = str(mine.get("name") or theirs.get("name") or "") if path else ""
        for key in dict.fromkeys([*mine, *theirs]):
            child = f"{path}.{key}" if path else key
            yield from _differences(child, mine.get(key), theirs.get(key), other, inner)
    elif isinstance(mine, list) and isinstance(theirs, list) and any(isinstance(x, dict) for x in [*mine, *theirs]):
        for i in range(max(len(mine), len(theirs))):
            left, right = (items[i] if i < len(items) else None for items in (mine, theirs))
            yield from _differences(f"{path}[{i}]", left, right, other)
    elif mine != theirs:
        yield f"{path} is {_show(mine)}, {other} has {_show(theirs)}{note}"


def _show(value: Any) -> str:
    if value is None:
        return "none"
    return str(value["name"]) if isinstance(value, dict) and "name" in value else str(value)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _positive(name: str, value: float) -> None:
    _require(value > 0 and math.isfinite(value), f"{name} must be positive and finite, is {value}")


def _interval(name: str, bounds: tuple[float, float]) -> None:
    low, high = bounds
    _require(low < high, f"{name} must be [low, high] with low < high, is [{low}, {high}]")


def _unique(name: str, items: Iterable[Camera | Field | RosStream]) -> None:
    names = [item.stream if isinstance(item, RosStream) else item.name for item in items]
    twice = sorted({item for item in names if names.count(item) > 1})
    _require(not twice, f"{name} names {', '.join(twice)} more than once")
