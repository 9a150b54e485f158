"""A SpaceMouse: six axes at once, and two buttons or more."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from vla.errors import UserError
from vla.teleop.devices import Grip
from vla.teleop.moment import Moment
from vla.teleop.plugged import DeviceGone, Look

DEAD_ZONE = 0.05
REPORTS = 50
"""More than come between two looks: it sends a few hundred a second."""
LOST = (OSError, RuntimeError, ValueError, AttributeError)


class SpaceMouse:
    """The first one there is. Raises UserError without pyspacemouse, or without the system's HID library."""

    name = "spacemouse"
    about = "Push and turn the cap    first button take hold, let go    second button gripper"

    def __init__(self) -> None:
        try:
            self._library: Any = importlib.import_module("pyspacemouse")
        except ModuleNotFoundError as error:
            told = f"teleop: Python package {error.name} is missing: pip install 'vla[spacemouse]'"
            raise UserError(told) from None
        except (OSError, ImportError, AttributeError):
            raise UserError("teleop: the system's HID library is missing: apt install libhidapi-hidraw0") from None
        self._mouse: Any = None
        self._down: tuple[bool, ...] = ()

    def open(self) -> None:
        try:
            self.use(self._library.open(axis_convention=self._library.AxisConvention.ROS))
        except LOST as error:
            raise DeviceGone(
                f"teleop: spacemouse: {error}; apt install libhidapi-hidraw0, and may you read it?"
            ) from None

    def use(self, mouse: Any) -> None:
        """An opened `pyspacemouse.SpaceMouseDevice` whose axes are forward, left, up, and the turns about them."""
        self._mouse, self._down = mouse, ()

    def look(self, grip: Grip, moment: Moment) -> Look:
        if self._mouse is None:
            raise DeviceGone
        try:
            state = self._newest()
        except Exception as error:  # the HID library's own
            self._mouse = None
            raise DeviceGone from error
        down = tuple(bool(one) for one in state.buttons[:2])
        pressed = [now and not before for now, before in zip(down, self._down or (True,) * len(down), strict=True)]
        self._down = down
        if pressed and pressed[0]:
            grip.clutch = not grip.clutch
        if len(pressed) > 1 and pressed[1]:
            grip.open = not grip.open
        axes = np.array([state.x, state.y, state.z, state.roll, state.pitch, state.yaw])
        return Look(np.where(np.abs(axes) < DEAD_ZONE, 0.0, np.clip(axes, -1, 1)))

    def close(self) -> None:
        if self._mouse is not None:
            self._mouse.close()
            self._mouse = None

    def _newest(self) -> Any:
        """Reports wait in a queue, one kind for pushing and one for turning: read them all."""
        state = self._mouse.read()
        for _ in range(REPORTS):
            read = state.t
            state = self._mouse.read()
            if state.t == read:
                break
        return state
