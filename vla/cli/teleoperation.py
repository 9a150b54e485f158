"""`vla teleop`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vla.cli.arguments import above_zero, environment, one_of, port, seconds, whole, zero_or_more
from vla.cli.common import (
    DRIVER,
    add_command,
    add_dds_options,
    add_device,
    add_lerobot_robot,
    add_training_seed,
    refuse,
    use_dds_options,
)

DEVICES = {
    "web": "a page in a browser (default)",
    "keyboard": "the keys of this terminal, also over SSH",
    "gamepad": "one that SDL knows",
    "spacemouse": "one of 3Dconnexion's",
    "lerobot": "any of LeRobot's teleoperators, such as a leader arm",
    "scripted": "in simulation, its expert, who takes over when the policy is slow",
}


ROBOTS = ("dds", "lerobot")


def add(commands: Any) -> None:
    parser = add_command(commands, "teleop", _teleop, "drive a robot, and record it")
    parser.add_argument(
        "--robot",
        default="tabletop",
        type=_robot,
        metavar="R",
        help="a simulated one (default %(default)s), or dds: a ROS 2 robot, without ROS; or lerobot: any of LeRobot's",
    )
    parser.add_argument("--spec", metavar="FILE", help="of a real robot: a file or a shipped robot")
    parser.add_argument("--instruction", default="", metavar="TEXT", help="where no simulated scene has one")
    parser.add_argument(
        "--device",
        default="web",
        type=one_of("device", DEVICES),
        metavar="D",
        help="; ".join(f"{name}: {about}" for name, about in DEVICES.items()),
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the dataset; takes are added to it")
    parser.add_argument("--policy", metavar="P", help=f"{DRIVER}; drives when it is told to")
    add_device(parser, "--policy-device")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=port, default=0, metavar="N", help="default: a free one")
    add_training_seed(parser)
    parser.add_argument("--operator", default="", metavar="NAME", help="recorded (default: your login)")
    parser.add_argument("--heartbeat", type=seconds, metavar="S", help="silence after which the arm holds")
    parser.add_argument("--preroll", type=seconds, default=0.5, metavar="S", help="recorded from before the start")
    parser.add_argument("--reserve-gb", type=zero_or_more, default=1.0, metavar="GB", help="of the disk that stay free")
    parser.add_argument("--speed", type=above_zero, default=1.0, metavar="X", help="times the usual speed (default 1)")
    add_lerobot_robot(parser)
    parser.add_argument(
        "--device-config",
        nargs="+",
        default=(),
        metavar="FILE|KEY=VALUE",
        help="with --device lerobot: as LeRobot has it, type=so101_leader port=/dev/ttyACM1",
    )
    parser.add_argument(
        "--episodes", type=whole(1), default=50, metavar="N", help="with --device scripted: takes (default 50)"
    )
    parser.add_argument("--device-units", choices=("deg", "rad"), default="deg", help="of a leader's joints")
    add_dds_options(parser.add_argument_group("with --robot dds"))


def _teleop(args: argparse.Namespace) -> None:
    _refuse_what_would_be_ignored(args)
    from vla.teleop.command import TeleopOptions, teleop

    use_dds_options(args)
    others = ("run", "parser", "loopback")
    given = {name: value for name, value in vars(args).items() if name not in others and value is not None}
    teleop(TeleopOptions(**given))


def _refuse_what_would_be_ignored(args: argparse.Namespace) -> None:
    if args.robot not in ROBOTS:
        refuse(args, "is for a robot that is not simulated here", "spec", "instruction")
    if args.robot != "lerobot":
        refuse(args, "is for --robot lerobot", "robot_config")
    if args.robot != "dds":
        refuse(args, "is for --robot dds", "domain", "loopback")
    if args.device != "web":
        refuse(args, "is for --device web", "host", "port")
    if args.device != "lerobot":
        refuse(args, "is for --device lerobot", "device_config", "device_units")
    if args.device == "scripted":
        refuse(args, "is for a person", "heartbeat")
    else:
        refuse(args, "is for --device scripted", "episodes")
    if not args.policy:
        refuse(args, "is for --policy", "policy_device")


def _robot(text: str) -> str:
    return text if text in ROBOTS else environment(text)
