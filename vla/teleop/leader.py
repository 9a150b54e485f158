"""Any teleoperator of LeRobot, plugins included: leader arms, and those that say how far the tool is to go."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from vla.errors import UserError
from vla.robots.lerobot_devices import LOST, connect, disconnect, make_device, scalar_names
from vla.spec import RobotSpec
from vla.teleop.devices import Grip, Wish
from vla.teleop.moment import Moment
from vla.teleop.plugged import DeviceGone, Look

Units = Literal["deg", "rad"]
DELTAS = ("delta_x", "delta_y", "delta_z")
EVENTS = {"success": "success", "rerecord_episode": "again", "terminate_episode": "fail"}
"""LeRobot's events, the most telling first: an episode that ends as a success is also terminated."""


class Leader:
    """config: as `make_device` takes it. units: of its joints; the gripper is in percent of the opening beside degrees,
    else a share of 1. Raises UserError if there is no such teleoperator, or if it cannot drive `spec`'s robot.
    """

    def __init__(self, spec: RobotSpec, config: Sequence[str], units: Units = "deg") -> None:
        self._device = make_device("teleoperator", config)
        self.name = f"lerobot:{self._device.config.type}"
        names = scalar_names(self._device.action_features)
        positions = tuple(name for name in names if name.endswith(".pos"))
        self._gripper = next((name for name in positions or names if "gripper" in name), None)
        self._joints = tuple(name for name in positions if name != self._gripper)
        by_name = tuple(f"{joint}.pos" for joint in (spec.kinematics.joints if spec.kinematics else ()))
        if set(by_name) == set(self._joints):
            self._joints = by_name  # else the robot's order is taken to be theirs
        self._by_deltas = set(DELTAS) <= set(names)
        self._scale, self._whole = (math.pi / 180, 100.0) if units == "deg" else (1.0, 1.0)
        self._check(spec, names)
        self._happened: set[str] = set()
        self.about = f"LeRobot teleoperator {self._device.config.type}: " + (
            "it says how the tool is to move" if self._by_deltas else "take hold, and the arm goes where it goes"
        )

    def open(self) -> None:
        if not self._device.is_connected:
            try:
                connect("teleoperator", self._device)
            except UserError as error:
                raise DeviceGone(str(error)) from error

    def look(self, grip: Grip, moment: Moment) -> Look:
        try:
            said = self._device.get_action()
            wishes = self._events(grip)
        except LOST as error:
            disconnect(self._device)
            raise DeviceGone from error
        if self._by_deltas:
            if self._gripper and said[self._gripper] != 1:  # 0 closes, 1 leaves it, 2 opens
                grip.open = said[self._gripper] > 1
            move = np.array([*(said[name] for name in DELTAS), 0, 0, 0], np.float64)
            return Look(np.clip(move, -1, 1), wishes=wishes)
        joints = np.array([said[name] for name in self._joints], np.float64) * self._scale
        opening = float(np.clip(said[self._gripper] / self._whole, 0, 1)) if self._gripper else None
        return Look(joints=joints, wishes=wishes, opening=opening)

    def close(self) -> None:
        disconnect(self._device)

    def _events(self, grip: Grip) -> tuple[Wish, ...]:
        """What some teleoperators' own buttons say."""
        if not hasattr(self._device, "get_teleop_events"):
            return ()
        events: dict[str, Any] = {event.value: on for event, on in self._device.get_teleop_events().items()}
        if self._by_deltas:
            grip.clutch = bool(events.get("is_intervention"))
        happened = {name for name in EVENTS if events.get(name)}
        new, self._happened = happened - self._happened, happened
        return tuple((EVENTS[name], None) for name in EVENTS if name in new)[:1]

    def _is_relative(self) -> bool:
        """Whether its joints are in shares of the ranges it was calibrated to, as LeRobot's drivers say it."""
        from lerobot.motors import MotorNormMode

        motors = getattr(getattr(self._device, "bus", None), "motors", None) or getattr(self._device, "joints", None)
        known = motors if isinstance(motors, Mapping) else {}
        modes = [known.get(name.removesuffix(".pos")) for name in self._joints]
        shares = any(getattr(mode, "norm_mode", mode) is MotorNormMode.RANGE_M100_100 for mode in modes)
        return shares or getattr(self._device.config, "use_degrees", True) is False

    def _check(self, spec: RobotSpec, names: tuple[str, ...]) -> None:
        if self._is_relative():
            can = hasattr(self._device.config, "use_degrees")
            cure = "set use_degrees=true, and calibrate" if can else "this one knows no degrees, and cannot lead"
            raise UserError(f"{self.name}: joints from -100 to 100 are nowhere: {cure}")
        wanted = spec.kinematics.joints if spec.kinematics else ()
        if not self._by_deltas and len(self._joints) != len(wanted):
            told = ", ".join(names) or "nothing"
            raise UserError(f"{self.name} says {told}: {spec.name} has the joints {', '.join(wanted) or 'unknown'}")
