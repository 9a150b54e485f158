"""Which robot a session drives: a simulated one in this process, or one that is reached over DDS or through LeRobot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vla import assets
from vla.errors import UserError
from vla.robots.base import Robot
from vla.robots.gym_sim import find_environment, make_robot
from vla.runtime.guarded import gate_of
from vla.spec import RobotSpec
from vla.teleop.command import TeleopOptions
from vla.teleop.pictures import CameraPictures, Pictures, TwinPictures

PRIORITY = 40
"""Of the loop that drives a real robot: a browser on the same machine is not to delay it."""
PATIENCE_S = 20.0
"""So long a robot is waited for that may have been started at the same time."""
BLIND_S = 0.5
"""So long a session waits, holding, for streams that have stopped; then the take ends."""


@dataclass(frozen=True)
class BodyChoice:
    """make: a connected robot, called in the thread that will own it. pictures: what people are shown of it. paced,
    priority: see `SessionSettings`; a simulated one has its physics and drawing in the loop, which must leave time to
    others.
    """

    spec: RobotSpec
    make: Callable[[], Robot]
    pictures: Callable[[], Pictures]
    paced: bool = False
    priority: int = 0


def choose_body(options: TeleopOptions) -> BodyChoice:
    """Raises UserError if what `options` name does not exist."""
    if options.robot == "dds":
        return _over_dds(_given_spec(options), options.domain)
    if options.robot == "lerobot":
        return _of_lerobot(_given_spec(options), options.robot_config)
    return _simulated(options.robot)


def _given_spec(options: TeleopOptions) -> RobotSpec:
    if not options.spec:
        raise UserError(f"teleop: --robot {options.robot} needs --spec, which says what its numbers mean")
    spec = RobotSpec.load(assets.find("robot", options.spec))
    gate_of(spec)  # what cannot be guarded is refused before anything is connected
    return spec


def _over_dds(spec: RobotSpec, domain: int | None) -> BodyChoice:
    try:
        from vla.robots.dds import DdsRobot
    except ModuleNotFoundError as error:
        raise UserError(f"teleop: Python package {error.name} is missing: pip install 'vla[dds]'") from None

    def make() -> Robot:
        robot = DdsRobot(spec, domain, PATIENCE_S, BLIND_S)
        robot.connect()
        return robot

    return BodyChoice(spec, make, CameraPictures, paced=True, priority=PRIORITY)


def _of_lerobot(spec: RobotSpec, config: Sequence[str]) -> BodyChoice:
    from vla.robots.lerobot import LeRobotRobot

    if not config:
        raise UserError("teleop: --robot lerobot needs --robot-config, a file or KEY=VALUE such as type=so101_follower")
    robot = LeRobotRobot(spec, config)

    def make() -> Robot:
        robot.connect()
        return robot

    return BodyChoice(spec, make, CameraPictures, priority=PRIORITY)


def _simulated(env: str) -> BodyChoice:
    entry = find_environment(env)
    spec = RobotSpec.load(assets.find("robot", entry.robot))
    split = entry.practice.get("split", "all")  # what is recorded asks for nothing that vla eval holds out
    return BodyChoice(
        spec,
        lambda: make_robot(env, split=split),
        lambda: TwinPictures(env, split) if entry.twin_size else CameraPictures(),
    )
