"""The devices that are plugged into this machine, by name."""

from __future__ import annotations

from vla.teleop.command import TeleopOptions
from vla.teleop.devices import LocalDevice


def open_device(options: TeleopOptions) -> LocalDevice:
    """Raises UserError if it is not there, or what it needs is not installed."""
    from vla.teleop.terminal import KeyboardDevice

    return KeyboardDevice()
