"""The devices that are plugged into this machine, by name."""

from __future__ import annotations

from vla.errors import UserError
from vla.spec import RobotSpec
from vla.teleop.command import TeleopOptions
from vla.teleop.devices import LocalDevice
from vla.teleop.plugged import DeviceGone, Driver, PluggedDevice
from vla.teleop.terminal import KeyboardDevice


def open_device(options: TeleopOptions, spec: RobotSpec) -> LocalDevice:
    """Raises UserError if it is not there, or what it needs is not installed."""
    if options.device == "keyboard":
        return KeyboardDevice()
    driver = _driver(options, spec)
    try:
        driver.open()
    except DeviceGone as gone:
        raise UserError(str(gone) or f"teleop: no {driver.name} is to be found: is it plugged in, and yours?") from None
    return PluggedDevice(driver)


def _driver(options: TeleopOptions, spec: RobotSpec) -> Driver:
    if options.device == "gamepad":
        from vla.teleop.gamepad import Gamepad

        return Gamepad()
    if options.device == "spacemouse":
        from vla.teleop.spacemouse import SpaceMouse

        return SpaceMouse()
    if not options.device_config:
        raise UserError("teleop: --device lerobot needs --device-config, a file or type=so101_leader port=/dev/ttyACM1")
    from vla.teleop.leader import Leader

    return Leader(spec, options.device_config, options.device_units)
