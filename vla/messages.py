"""What is in a ROS message: pictures and vectors as the robot spec names them, read and written.

Reading works on attributes alone, so messages of `vla.ros_types` and of rclpy are the same to it. Whatever a message
does not have, or has otherwise than the spec says, is a `BadMessage` that names it; nothing is made up in its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.actions import rotations
from vla.ros_types import MessageTypes
from vla.spec import Camera, Field, RosStream

Array = NDArray[np.float64]

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
JOINT_STATE, TRAJECTORY = "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory"

CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0), "mono8": (0, 0, 0)}
"""Encodings of an Image -> where red, green and blue are."""
_BYTES = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}

SECOND = 1_000_000_000


class BadMessage(ValueError):
    """A message that cannot be used, and why."""


class NotMine(BadMessage):
    """A message of another publisher on the same topic, such as the gripper's joints beside the arm's."""


def header_stamp(message: Any) -> int:
    """Nanoseconds. BadMessage if there is no header or it was never stamped."""
    header = getattr(message, "header", None)
    if header is None:
        raise BadMessage("has no header; its stream needs stamp: receive")
    stamp = to_ns(header.stamp)
    if stamp == 0:
        raise BadMessage("is not stamped (its header says 0); its stream needs stamp: receive")
    return stamp


def to_ns(stamp: Any) -> int:
    return int(stamp.sec) * SECOND + int(stamp.nanosec)


def read_picture(message: Any, stream: RosStream, camera: Camera) -> NDArray[np.uint8]:
    """(H, W, 3) in the camera's colour order."""
    rgb = _decompress(message) if stream.type == COMPRESSED else _unpack(message)
    if rgb.shape[:2] != (camera.height, camera.width):
        raise BadMessage(f"is {rgb.shape[1]}x{rgb.shape[0]}, the spec says {camera.width}x{camera.height}")
    return np.ascontiguousarray(rgb if camera.colour == "rgb" else rgb[..., ::-1])


def read_values(message: Any, stream: RosStream, fields: Sequence[Field]) -> Array:
    """(D,) in the units of `fields`, which the stream covers together."""
    if stream.type == JOINT_STATE:
        raw = _joints(message.name, _of_joints(message, fields[0]), stream.fields)
    elif stream.type == TRAJECTORY:
        if not message.points:
            raise BadMessage("has no points")
        first = message.points[0]
        values = first.velocities if fields[0].unit in ("rad/s", "m/s") else first.positions
        raw = _joints(message.joint_names, values, stream.fields)
    else:
        raw = np.concatenate([_numbers(_path(message, path), path, fields) for path in stream.fields or ("data",)])
    size = sum(field.size for field in fields)
    if len(raw) != size:
        raise BadMessage(f"has {len(raw)} values, the spec says {size}")
    if not np.isfinite(raw).all():
        names = stream.fields if len(stream.fields) == len(raw) else [str(i) for i in range(len(raw))]
        bad = next(name for name, value in zip(names, raw, strict=True) if not math.isfinite(value))
        raise BadMessage(f"{bad} is not a finite number")
    return stream.scale * raw + stream.offset


def write_message(
    types: MessageTypes, parts: Iterable[tuple[RosStream, Sequence[Field], Array]], stamp: int, period: float
) -> Any:
    """A message of one topic from all streams that share it, the inverse of `read_values`.

    stamp: ns. period: seconds for which a command is meant.
    """
    parts = [(stream, fields, (values - stream.offset) / stream.scale) for stream, fields, values in parts]
    first, message = parts[0][0], types.new(parts[0][0].type)
    stamp_message(message, stamp)
    if first.type == JOINT_STATE:
        _put_joints(message, parts)
    elif first.type == TRAJECTORY:
        message.joint_names = [name for stream, _, _ in parts for name in stream.fields]
        message.points = _points(types, np.concatenate([values for _, _, values in parts]), parts[0][1], period)
        message.header.stamp.sec = message.header.stamp.nanosec = 0  # begin at once, as the controller reads it
    else:
        for stream, fields, values in parts:
            if frame := fields[0].frame:
                _set_frame(message, frame)
            _put(message, stream, fields, values)
    return message


def write_picture(
    types: MessageTypes, stream: RosStream, camera: Camera, picture: NDArray[np.uint8], stamp: int
) -> Any:
    """An Image, or a PNG in a CompressedImage, of (H, W, 3) in the camera's colour order."""
    message = types.new(stream.type)
    stamp_message(message, stamp)
    message.header.frame_id = camera.name
    if stream.type == COMPRESSED:
        import cv2

        bgr = picture if camera.colour == "bgr" else picture[..., ::-1]
        message.format = "rgb8; png compressed bgr8"
        message.data = cv2.imencode(".png", np.ascontiguousarray(bgr))[1].reshape(-1)
        return message
    message.height, message.width = picture.shape[:2]
    message.encoding, message.step = f"{camera.colour}8", 3 * picture.shape[1]
    message.data = np.ascontiguousarray(picture).reshape(-1)
    return message


def stamp_message(message: Any, stamp: int) -> None:
    if hasattr(message, "header"):
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, SECOND)


def _unpack(message: Any) -> NDArray[np.uint8]:
    channels = _BYTES.get(message.encoding)
    if channels is None:
        raise BadMessage(f"its encoding is {message.encoding!r}; known are {', '.join(_BYTES)}")
    data = np.frombuffer(message.data, np.uint8)
    height, width, step = int(message.height), int(message.width), int(message.step)
    if step < width * channels or len(data) < height * step:
        raise BadMessage(f"has {len(data)} bytes with {step} a row, too few for {width}x{height} {message.encoding}")
    rows = data[: height * step].reshape(height, step)[:, : width * channels]
    pixels = rows.reshape(height, width, channels)
    return pixels if message.encoding == "rgb8" else pixels[..., CHANNELS[message.encoding]]


def _decompress(message: Any) -> NDArray[np.uint8]:
    import cv2

    if "compressedDepth" in message.format:
        raise BadMessage("is a depth image")
    data = np.frombuffer(message.data, np.uint8)
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if bgr is None:
        raise BadMessage(f"its {len(data)} bytes are no {message.format or 'picture'}")
    return np.asarray(bgr, np.uint8)[..., ::-1]


_ARRAYS = {"rad/s": "velocity", "m/s": "velocity", "N": "effort", "Nm": "effort"}
"""Unit -> the array of a JointState that has it; "position" has the others."""


def _of_joints(message: Any, field: Field) -> Any:
    return getattr(message, _ARRAYS.get(field.unit, "position"))


def _put_joints(message: Any, parts: Sequence[tuple[RosStream, Sequence[Field], Array]]) -> None:
    """Every joint once, in every array that is in use; NaN where nothing is said of it, as ros2_control has it."""
    message.name = list(dict.fromkeys(name for stream, _, _ in parts for name in stream.fields))
    for stream, fields, values in parts:
        array = _of_joints(message, fields[0])
        if not len(array):
            array = np.full(len(message.name), np.nan)
            setattr(message, _ARRAYS.get(fields[0].unit, "position"), array)
        array[[message.name.index(name) for name in stream.fields]] = values


def _joints(names: Sequence[str], values: Any, wanted: Sequence[str]) -> Array:
    """The values of the joints in the order of `wanted`."""
    places = {name: i for i, name in enumerate(names)}
    missing = [name for name in wanted if name not in places]
    if len(missing) == len(wanted):
        raise NotMine(f"has none of {', '.join(wanted)}")
    if missing:
        raise BadMessage(f"{', '.join(missing)} missing")
    if len(values) != len(names):
        raise BadMessage(f"has {len(names)} joint names and {len(values)} values")
    return np.array([values[places[name]] for name in wanted], np.float64)


def _path(message: Any, path: str) -> Any:
    for name in path.split("."):
        if not hasattr(message, name):
            raise BadMessage(f"has no {path}")
        message = getattr(message, name)
    return message


def _numbers(part: Any, path: str, fields: Sequence[Field]) -> Array:
    """Numbers of a Vector3, Point, Quaternion, number or array; quaternions as the spec writes rotations."""
    if hasattr(part, "w"):
        quaternion = np.array([part.x, part.y, part.z, part.w], np.float64)
        if not np.isfinite(quaternion).all() or abs(np.linalg.norm(quaternion) - 1) > 0.01:
            raise BadMessage(f"{path} is no unit quaternion")
        target = next((field.rotation for field in fields if field.rotation), None)
        return rotations.convert(quaternion, "quaternion_xyzw", target) if target else quaternion
    if hasattr(part, "x"):
        return np.array([part.x, part.y, part.z], np.float64)
    try:
        return np.atleast_1d(np.asarray(part, np.float64))
    except (TypeError, ValueError):
        raise BadMessage(f"{path} is not made of numbers") from None


def _put(message: Any, stream: RosStream, fields: Sequence[Field], values: Array) -> None:
    at = 0
    for path in stream.fields or ("data",):
        *outer, last = path.split(".")
        holder = _path(message, ".".join(outer)) if outer else message
        part = _path(holder, last)
        if hasattr(part, "w"):
            source = next((field for field in fields if field.rotation), None)
            size = source.size if source else 4
            rotation = source.rotation if source and source.rotation else "quaternion_xyzw"
            quaternion = rotations.convert(values[at : at + size], rotation, "quaternion_xyzw")
            part.x, part.y, part.z, part.w = (float(v) for v in quaternion)
        elif hasattr(part, "x"):
            size = 3
            part.x, part.y, part.z = (float(v) for v in values[at : at + 3])
        elif isinstance(part, np.ndarray):
            size = len(values) - at if len(part) == 0 else len(part)
            setattr(holder, last, values[at : at + size].astype(part.dtype))
        else:
            size = 1
            setattr(holder, last, type(part)(values[at]))
        at += size
    if at != len(values):
        raise BadMessage(f"takes {at} values of {stream.stream}, which has {len(values)}")


def _set_frame(message: Any, frame: str) -> None:
    if hasattr(message, "header"):
        message.header.frame_id = frame


AHEAD = 0.1
"""Seconds that a trajectory lasts at most after its control period: it outlives its publisher."""


def _points(types: MessageTypes, values: Array, fields: Sequence[Field], period: float) -> list[Any]:
    """What is commanded, one control period ahead, and another period later, or `AHEAD`, standing still there."""
    first, last = period, period + min(period, AHEAD)
    velocity = fields[0].unit in ("rad/s", "m/s")
    points = []
    for ahead in (first, last):
        point = types.new("trajectory_msgs/msg/JointTrajectoryPoint")
        if not velocity:
            point.positions = values
        if ahead == last:
            point.velocities = np.zeros(len(values))
        if velocity and ahead == first:
            point.velocities = values
        point.time_from_start.sec, point.time_from_start.nanosec = divmod(round(ahead * SECOND), SECOND)
        points.append(point)
    return points
