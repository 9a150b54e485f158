"""What an operator's hand says, whatever it says it with, and when it may move the robot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from vla.teleop.moment import Moment

Wish = tuple[str, Any]
"""What `Session.ask` takes, or ("end", None)."""
HEARTBEAT_S = 0.2
"""An operator not heard of for this long is not there."""
FIRM = 0.05
"""Of the opening: fingers that move less than this are taken to rest."""


@dataclass(frozen=True)
class Reading:
    """move (6,): in [-1, 1]; forward, left, up, and turning about these axes, in the base frame. gripper: in [0, 1],
    how far open. clutch: the hand is on the robot. stamp: when it was said, seconds on `time.monotonic`. joints: (N,)
    rad, where a leader arm is, instead of `move`.
    """

    move: Float[np.ndarray, " 6"]
    gripper: float
    clutch: bool
    stamp: float
    joints: Float[np.ndarray, " N"] | None = None


class Device(Protocol):
    """A keyboard, a gamepad, a browser."""

    @property
    def name(self) -> str: ...

    def read(self) -> Reading | None:
        """The newest reading, however old; None if there has never been one or the device is gone. Never waits."""
        ...

    def close(self) -> None: ...


class LocalDevice(Device, Protocol):
    """One that is plugged into this machine, or its terminal. Polled by one thread, read by another."""

    @property
    def about(self) -> str:
        """What to press, in a few lines."""
        ...

    @property
    def prompt(self) -> str | None:
        """What is being typed, if anything is."""
        ...

    @property
    def trouble(self) -> str:
        """Why it cannot be used just now, or ""."""
        ...

    def poll(self, moment: Moment) -> list[Wish]:
        """Look at the device, for a few hundredths of a second; returns what the operator has asked for since.

        Raises EOFError when the terminal has hung up.
        """
        ...


class Grip:
    """The clutch and the gripper of a device whose buttons say "the other way": both follow what became of them."""

    def __init__(self) -> None:
        self.clutch, self.open = False, True
        self._trips: int | None = None

    def follow(self, moment: Moment) -> None:
        """A clutch that the session opened stays open until it is pressed again; the policy may move the gripper."""
        if self._trips is not None and moment.trips > self._trips:
            self.clutch = False
        self._trips = moment.trips
        if moment.stopped is not None:
            self.clutch = False
        if not self.clutch and moment.driver != "person":
            self.open = moment.gripper > 0.5


class Fingers:
    """Taking hold leaves the gripper as it is: it follows the hand's once that has been opened or closed since then."""

    def __init__(self) -> None:
        self._at_first: float | None = None
        self._follows = False

    def follow(self, hand: float | None, gripper: float) -> float:
        """How far open the gripper is to be, which is at `gripper`. hand: None while nobody has hold."""
        if hand is None:
            self._at_first, self._follows = None, False
            return gripper
        if self._at_first is None:
            self._at_first = hand
        self._follows = self._follows or abs(hand - self._at_first) > FIRM
        return hand if self._follows else gripper


class Clutch:
    """Whether the hand moves the robot. After a trip (silence, a stop) it must be let go and engaged again.

    timeout: seconds of silence that trip it. trips, why: how often it tripped, and for what the last time.
    """

    def __init__(self, timeout: float = HEARTBEAT_S) -> None:
        self._timeout = timeout
        self._released = False
        self.engaged = False
        self.present = False
        self.trips = 0
        self.why = ""

    def update(self, reading: Reading | None, now: float) -> bool:
        """Call it every control step, with time in seconds; returns `engaged`. present: the operator is heard of."""
        here = reading is not None and now - reading.stamp <= self._timeout
        if self.present and not here:
            self.trip("the operator's heartbeat was lost" if reading is not None else "the operator has left")
        self.present = here
        if reading is None or not here:
            return False
        if not reading.clutch:
            self._released = True
        self.engaged = reading.clutch and self._released
        return self.engaged

    def trip(self, why: str) -> None:
        self.engaged = self._released = False
        self.trips += 1
        self.why = why
