"""Which robot a session drives: a simulated one in this process, or one that is reached over DDS or through LeRobot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vla import assets
from vla.robots.base import Robot
from vla.robots.gym_sim import find_environment, make_robot
from vla.spec import RobotSpec
from vla.teleop.command import TeleopOptions
from vla.teleop.pictures import Pictures, TwinPictures


@dataclass(frozen=True)
class BodyChoice:
    """make: a connected robot, called in the thread that will own it. pictures: what people are shown of it."""

    spec: RobotSpec
    make: Callable[[], Robot]
    pictures: Callable[[], Pictures]


def choose_body(options: TeleopOptions) -> BodyChoice:
    """Raises UserError if what `options` name does not exist."""
    return _simulated(options.robot)


def _simulated(env: str) -> BodyChoice:
    spec = RobotSpec.load(assets.find("robot", find_environment(env).robot))
    return BodyChoice(spec, lambda: make_robot(env), lambda: TwinPictures(env))
