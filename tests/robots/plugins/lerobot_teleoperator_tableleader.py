"""A leader arm for LeRobot as its plugins are: it is where a file says, in degrees, with the gripper in percent."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from lerobot.motors import Motor, MotorNormMode
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig


@TeleoperatorConfig.register_subclass("tableleader")
@dataclass(kw_only=True)
class TableleaderConfig(TeleoperatorConfig):
    """file: eight numbers. While there is none, the arm is unplugged. shares: its motors say -100 to 100.
    names: of its joints.
    """

    file: str
    use_degrees: bool = True
    shares: bool = False
    joints: int = 7
    names: list[str] = field(default_factory=list)


class Tableleader(Teleoperator):
    config_class = TableleaderConfig
    name = "tableleader"
    is_calibrated = True
    feedback_features: dict = {}  # noqa: RUF012

    def __init__(self, config: TableleaderConfig) -> None:
        super().__init__(config)
        self.config, self._connected = config, False
        self._names = config.names or [f"joint{i + 1}" for i in range(config.joints)]
        mode = MotorNormMode.RANGE_M100_100 if config.shares else MotorNormMode.DEGREES
        motors = {name: Motor(i, "sts3215", mode) for i, name in enumerate(self._names)}
        self.bus = SimpleNamespace(motors=motors)

    @property
    def action_features(self) -> dict:
        return {f"{name}.pos": float for name in (*self._names, "gripper")}

    @property
    def is_connected(self) -> bool:
        return self._connected

    def connect(self, calibrate: bool = True) -> None:
        if not Path(self.config.file).exists():
            raise ConnectionError("there is no leader")
        self._connected = True

    def calibrate(self) -> None:
        pass

    def configure(self) -> None:
        pass

    def get_action(self) -> dict:
        try:
            values = [float(text) for text in Path(self.config.file).read_text().split()]
        except FileNotFoundError:
            raise ConnectionError("the leader does not answer") from None
        return dict(zip(self.action_features, values, strict=True))

    def send_feedback(self, feedback: dict) -> None:
        pass

    def disconnect(self) -> None:
        self._connected = False
