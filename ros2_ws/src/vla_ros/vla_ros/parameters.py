"""Parameters as frozen dataclasses: a field is a parameter, its default the default, its docstring the description."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from vla import assets
from vla.errors import UserError
from vla.robots.gym_sim import find_environment
from vla.spec import RobotSpec, RosStream

CLOCK = RosStream("clock", "/clock", "rosgraph_msgs/msg/Clock")


@dataclass(frozen=True)
class PolicyParameters:
    """policy: a shipped name, a folder, a hub id, or a server (`ws://host:port`, its key in VLA_API_KEY). spec: a
    shipped name or a file, with a `ros` section; empty: the robot that the policy was trained for. gate: the safety
    gate is in the path. time_limit: seconds, of goals that give none. patience: seconds to wait for a stream before
    giving up. seed: of the scene that a simulated robot begins before each goal; -1 takes the robot as it is. s2_delay,
    s2_period (s), s1_delay (control steps): charged in lockstep. s2_stop: the robot holds when the thought in use is
    older (s). words: seconds between S2's words, 0 for none. latents: publish them. device: auto, cpu, cuda or cuda:N.
    """

    policy: str = "tabletop"
    spec: str = ""
    gate: bool = True
    time_limit: float = 30.0
    patience: float = 5.0
    seed: int = -1
    s2_delay: float = 0.0
    s2_period: float = 0.0
    s1_delay: int = 0
    s2_stop: float = 2.0
    words: float = 1.0
    latents: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class RecorderParameters:
    """spec: as the policy's. out: the LeRobot dataset, a new one or one of the same robot. task: what is done, if no
    topic says so."""

    spec: str = "tabletop"
    out: str = ""
    task: str = ""


@dataclass(frozen=True)
class SimParameters:
    """env: an environment of `vla`. spec: its topics; empty: those of the environment's robot. task: one task family.
    seed: of the first scene. lockstep: time waits for commands."""

    env: str = "tabletop"
    spec: str = ""
    task: str = "all"
    seed: int = 0
    lockstep: bool = False


def declare(node: Any, kind: type) -> None:
    """Declare a parameter for every field, of the type of its default."""
    for field in fields(kind):
        node.declare_parameter(field.name, field.default)


def read[T](node: Any, kind: type[T]) -> T:
    """What the parameters are now."""
    return kind(**{field.name: node.get_parameter(field.name).value for field in fields(kind)})  # type: ignore[arg-type]


def robot_spec(name: str, simulated_time: bool) -> RobotSpec:
    """The spec of that name, with what ROS needs. UserError if there is none, or it has no `ros` section.

    simulated_time: the robot follows /clock, whether or not the spec lists it.
    """
    spec = RobotSpec.load(assets.find("robot", name))
    if not spec.ros:
        raise UserError(f"robot spec: {name} has no ros section, which says its topics; see docs/ros2.md")
    spec.check_ros()
    return with_clock(spec) if simulated_time else spec


def with_clock(spec: RobotSpec) -> RobotSpec:
    if any(stream.stream == CLOCK.stream for stream in spec.ros):
        return spec
    return replace(spec, ros=(*spec.ros, CLOCK))


def sim_spec_name(given: SimParameters) -> str:
    return given.spec or find_environment(given.env, given.task).robot
