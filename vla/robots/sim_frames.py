"""What a simulated robot publishes beside the streams of its spec: CameraInfo, compressed pictures, tf."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.actions.rotations import matrix_to_quaternion
from vla.messages import COMPRESSED, IMAGE, stamp_message, write_picture
from vla.robots.base import Observation
from vla.robots.message_bus import MessageBus, Publisher
from vla.spec import RobotSpec
from vla.streams import Source, sources

INFO, TF = "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage"
_OPTICAL = np.diag([1.0, -1.0, -1.0])
"""From MuJoCo's camera axes (x right, y up, z back) to REP-103's optical ones (x right, y down, z forward)."""


def has_frames(environment: Any) -> bool:
    """Whether it has one MuJoCo model for all its scenes: those of several have none before the first."""
    try:
        return hasattr(environment, "model") and hasattr(environment, "data")
    except AssertionError:
        return False


class SimFrames:
    """environment: of MuJoCo, with `model` and `data`, and `spec.kinematics` naming its base body and tool site.

    For every camera on an Image topic such as /front/image_raw: /front/camera_info, and /front/image_raw/compressed
    for whoever subscribes. On /tf every link of the arm, the tool, and the cameras' optical frames, in the base frame.
    """

    def __init__(self, bus: MessageBus, environment: Any, spec: RobotSpec) -> None:
        self._types, self._spec = bus.types, spec
        self._model, self._data = environment.model, environment.data
        kinematics = spec.kinematics
        self._base = kinematics.base_frame if kinematics else self._model.body(1).name
        self._tool = kinematics.tool_frame if kinematics else None
        root = self._model.body(self._base).id
        self._links = [
            body
            for body in map(self._model.body, range(self._model.nbody))
            if body.name and body.name != self._base and self._model.body_rootid[body.id] == root
        ]
        self._tf = bus.advertise("/tf", TF, "reliable", depth=100)
        self._cameras: list[tuple[Source, Publisher, Publisher]] = [
            (
                part,
                bus.advertise(f"{part.stream.topic.rpartition('/')[0]}/camera_info", INFO, "sensor"),
                bus.advertise(f"{part.stream.topic}/compressed", COMPRESSED, "sensor"),
            )
            for part in sources(spec, "camera")
            if part.stream.type == IMAGE
        ]

    def publish(self, observation: Observation, now: int) -> None:
        """now: the robot's time, ns."""
        self._tf.publish(self._types.new(TF, transforms=self._transforms(now)))
        for part, info, compressed in self._cameras:
            assert part.camera
            info.publish(self._info(part.camera.name, part.camera.height, part.camera.width, now))
            if compressed.readers:
                stream = replace(part.stream, type=COMPRESSED)
                picture = observation.images[part.camera.name]
                compressed.publish(write_picture(self._types, stream, part.camera, picture, now))

    def _info(self, name: str, height: int, width: int, now: int) -> Any:
        focal = height / 2 / np.tan(np.radians(float(self._model.camera(name).fovy[0])) / 2)
        u, v = (width - 1) / 2, (height - 1) / 2
        info = self._types.new(INFO, height=height, width=width, distortion_model="plumb_bob", d=np.zeros(5))
        stamp_message(info, now)
        info.header.frame_id = name
        info.k = np.array([focal, 0, u, 0, focal, v, 0, 0, 1])
        info.r = np.eye(3).reshape(-1)
        info.p = np.array([focal, 0, u, 0, 0, focal, v, 0, 0, 0, 1, 0])
        return info

    def _transforms(self, now: int) -> list[Any]:
        data = self._data
        frames = {body.name: (data.xpos[body.id], data.xmat[body.id].reshape(3, 3)) for body in self._links}
        if self._tool:
            site = data.site(self._tool)
            frames[self._tool] = site.xpos, site.xmat.reshape(3, 3)
        for part, *_ in self._cameras:
            camera = data.camera(part.name)
            frames[part.name] = camera.xpos, camera.xmat.reshape(3, 3) @ _OPTICAL
        base = data.body(self._base)
        turn = base.xmat.reshape(3, 3)
        return [
            self._transform(name, turn.T @ (place - base.xpos), turn.T @ rotation, now)
            for name, (place, rotation) in frames.items()
        ]

    def _transform(self, child: str, place: NDArray[Any], rotation: NDArray[Any], now: int) -> Any:
        message = self._types.new("geometry_msgs/msg/TransformStamped", child_frame_id=child)
        stamp_message(message, now)
        message.header.frame_id = self._base
        to = message.transform
        to.translation.x, to.translation.y, to.translation.z = map(float, place)
        to.rotation.x, to.rotation.y, to.rotation.z, to.rotation.w = map(float, matrix_to_quaternion(rotation))
        return message
