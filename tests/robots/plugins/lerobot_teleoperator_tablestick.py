"""A stick for LeRobot as its plugins are: a file says how far the tool is to go, and which buttons are down.

What it says, and that it has nothing to calibrate, is as with LeRobot's own gamepad.
"""

from dataclasses import dataclass
from pathlib import Path

from lerobot.teleoperators import Teleoperator, TeleoperatorConfig
from lerobot.teleoperators.utils import TeleopEvents


@TeleoperatorConfig.register_subclass("tablestick")
@dataclass(kw_only=True)
class TablestickConfig(TeleoperatorConfig):
    """file: four numbers, then the names of the events that are on."""

    file: str


class Tablestick(Teleoperator):
    config_class = TablestickConfig
    name = "tablestick"
    is_calibrated = True
    feedback_features: dict = {}  # noqa: RUF012

    def __init__(self, config: TablestickConfig) -> None:
        super().__init__(config)
        self.config, self._connected = config, False

    @property
    def action_features(self) -> dict:
        return {"dtype": "float32", "shape": (4,), "names": {"delta_x": 0, "delta_y": 1, "delta_z": 2, "gripper": 3}}

    @property
    def is_connected(self) -> bool:
        return self._connected

    def connect(self) -> None:
        self._connected = True

    def calibrate(self) -> None:
        pass

    def configure(self) -> None:
        pass

    def get_action(self) -> dict:
        return dict(zip(self.action_features["names"], map(float, self._said()[:4]), strict=True))

    def get_teleop_events(self) -> dict:
        on = self._said()[4:]
        return {event: event.value in on for event in TeleopEvents}

    def send_feedback(self, feedback: dict) -> None:
        pass

    def disconnect(self) -> None:
        self._connected = False

    def _said(self) -> list[str]:
        return Path(self.config.file).read_text().split()
