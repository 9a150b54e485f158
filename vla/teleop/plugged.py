"""A device that is plugged in, and the keys of the terminal beside it for what it has no buttons for."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Float

from vla.teleop.devices import Grip, Reading, Wish
from vla.teleop.keys import Keys
from vla.teleop.moment import Moment
from vla.teleop.terminal import POLL_S, Terminal

AGAIN_S = 1.0
"""So often one that is gone is looked for."""


KEYS = "Space clutch, G gripper, Enter start, Y success, N failure, X discard, Z undo, P policy, Escape stop, H release"


class DeviceGone(Exception):
    """It cannot be read: unplugged, or switched off. It may come back."""


@dataclass(frozen=True)
class Look:
    """What a device says at one moment. move: as in `Reading`; joints: (N,) rad, of a leader, instead. wishes: as
    `Session.ask` takes them. opening: of the gripper, in [0, 1], where it has one of its own.
    """

    move: Float[np.ndarray, " 6"] = field(default_factory=lambda: np.zeros(6))
    joints: Float[np.ndarray, " N"] | None = None
    wishes: tuple[Wish, ...] = ()
    opening: float | None = None


class Driver(Protocol):
    """How one kind of device is read, by one thread."""

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> str:
        """What to press, in a line or two."""
        ...

    def look(self, grip: Grip, moment: Moment) -> Look:
        """What it says now; its buttons for clutch and gripper go into `grip`. Never waits; raises DeviceGone."""
        ...

    def open(self) -> None:
        """Look for it once more. Raises DeviceGone."""
        ...

    def close(self) -> None: ...


class PluggedDevice:
    """driver: opened. Without a terminal its own buttons are all there is."""

    def __init__(self, driver: Driver) -> None:
        self._driver, self._keys = driver, Keys()
        self._terminal = Terminal() if sys.stdin.isatty() else None
        self._newest: Reading | None = None
        self._gone = False
        self._tried = 0.0
        self.name = driver.name
        self.about = f"{driver.about}\nKeys of this terminal: {KEYS}" if self._terminal else driver.about

    @property
    def prompt(self) -> str | None:
        return self._keys.typing

    @property
    def trouble(self) -> str:
        return f"the {self.name} is gone: plug it in again" if self._gone else ""

    def poll(self, moment: Moment) -> list[Wish]:
        self._keys.follow(moment)
        wishes = self._pressed()
        now = time.monotonic()
        try:
            if self._gone:
                self._try_again(now)
            look = self._driver.look(self._keys.grip, moment)
        except DeviceGone:
            self._gone, self._newest, self._keys.grip.clutch = True, None, False
            return wishes
        grip = self._keys.grip
        opening = float(grip.open) if look.opening is None else look.opening
        self._newest = Reading(look.move, opening, grip.clutch, now, look.joints)
        return [*wishes, *look.wishes]

    def read(self) -> Reading | None:
        return self._newest

    def close(self) -> None:
        self._newest = None
        self._driver.close()
        if self._terminal is not None:
            self._terminal.close()

    def _pressed(self) -> list[Wish]:
        if self._terminal is None:
            time.sleep(POLL_S)
            return []
        now = time.monotonic()
        return [wish for key in self._terminal.pressed() for wish in self._keys.press(key, now)]

    def _try_again(self, now: float) -> None:
        if now - self._tried < AGAIN_S:
            raise DeviceGone
        self._tried = now
        self._driver.open()
        self._gone = False
