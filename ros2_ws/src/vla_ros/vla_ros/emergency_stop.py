"""The emergency stop: latched by whoever says stop, until somebody resets it."""

from __future__ import annotations


class EmergencyStop:
    """Not for several threads at once. It may be told the same thing more than once."""

    def __init__(self) -> None:
        self.latched = self._pressed = False

    def hear(self, pressed: bool) -> bool:
        """What the button says; returns whether that is a stop that was not latched yet."""
        self._pressed = pressed
        return pressed and self.latch()

    def latch(self) -> bool:
        """Returns whether it was not latched yet."""
        before, self.latched = self.latched, True
        return not before

    def reset(self) -> str:
        """Goals may be taken again; returns why not, "" if they may."""
        if self._pressed:
            return "the button still says stop: release it first"
        self.latched = False
        return ""
