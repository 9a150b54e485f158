"""Any robot of LeRobot, plugins included, as a body in the units of its spec."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.errors import UserError
from vla.robots.base import Observation, SensesLost
from vla.robots.lerobot_devices import LOST, connect, disconnect, make_device, scalar_names
from vla.spec import RobotSpec


class LeRobotRobot:
    """The `Robot` protocol over a `lerobot.robots.Robot`.

    Vectors are LeRobot's numbers in LeRobot's order, as `lerobot-record` writes them: the spec says what they mean, its
    cameras have the names of LeRobot's. config: as `make_device` takes it. Raises UserError if there is no such robot,
    or if the spec does not fit it.
    """

    def __init__(self, spec: RobotSpec, config: Sequence[str]) -> None:
        self.spec = spec
        self._robot = make_device("robot", config)
        self._state = scalar_names(self._robot.observation_features)
        self._action = scalar_names(self._robot.action_features)
        self._check()
        self._began = time.monotonic()

    def connect(self) -> None:
        connect("robot", self._robot)
        self._began = time.monotonic()

    def reset(self, seed: int | None = None) -> Observation:
        """A real robot stays where it is."""
        return self.observe()

    def observe(self) -> Observation:
        stamp = time.monotonic() - self._began
        try:
            seen = self._robot.get_observation()
            images = {one.name: self._picture(seen[one.name], one.name) for one in self.spec.cameras}
            state = np.array([seen[name] for name in self._state], np.float32)
        except KeyError as error:
            raise SensesLost(f"{self._named}: {error.args[0]} is missing in what it senses") from None
        except LOST as error:
            raise SensesLost(f"{self._named}: {error}") from None
        return Observation(images, state, stamp)

    def command(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns what the driver says it sent: it may have limits of its own."""
        try:
            said = self._robot.send_action({name: float(x) for name, x in zip(self._action, action, strict=True)})
        except LOST as error:
            raise SensesLost(f"{self._named}: {error}") from None
        sent = [said.get(name, asked) for name, asked in zip(self._action, action, strict=True)]
        return np.array(sent, np.float32)

    def close(self) -> None:
        """Most drivers switch the motors off here."""
        disconnect(self._robot)

    @property
    def _named(self) -> str:
        return f"LeRobot robot {self._robot.config.type}"

    def _check(self) -> None:
        for what, size, names in (
            ("state", self.spec.state_size, self._state),
            ("action", self.spec.action_size, self._action),
        ):
            if size != len(names):
                raise UserError(
                    f"robot spec: {self.spec.name}: its {what} has {size} entries, {self._named} has {len(names)}: "
                    f"{', '.join(names)}"
                )
        features = self._robot.observation_features
        for camera in self.spec.cameras:
            shape, wanted = features.get(camera.name), (camera.height, camera.width, 3)
            if shape is None:
                there = ", ".join(name for name, one in features.items() if isinstance(one, tuple)) or "none"
                raise UserError(f"robot spec: {self._named} has no camera {camera.name!r}; it has {there}")
            if tuple(shape) != wanted:
                raise UserError(f"robot spec: camera {camera.name} is {wanted}, {self._named} has {tuple(shape)}")

    def _picture(self, image: Any, name: str) -> NDArray[np.uint8]:
        camera = self.spec.camera(name)
        picture = np.asarray(image)
        if picture.shape != (camera.height, camera.width, 3) or picture.dtype != np.uint8:
            raise SensesLost(f"{self._named}: a picture of {name} is {picture.dtype} {picture.shape}")
        return picture
