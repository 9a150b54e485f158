"""Arguments of what speaks DDS on the command line."""

from __future__ import annotations

import argparse
from typing import Any

from vla import assets
from vla.arguments import environment, whole
from vla.errors import UserError


def add_dds_options(parser: Any) -> None:
    """Where to find the others."""
    parser.add_argument("--domain", type=domain, metavar="N", help="DDS domain (default: ROS_DOMAIN_ID, or 0)")
    parser.add_argument("--loopback", action="store_true", help="speak DDS on this machine only")


def use_dds_options(args: argparse.Namespace) -> None:
    if args.loopback:
        from vla.robots.dds_bus import use_loopback

        use_loopback()


def add_sim_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dds", action="store_true", help="as a ROS 2 robot over DDS, without ROS")
    parser.add_argument("--env", type=environment, default="tabletop", metavar="NAME", help="default tabletop")
    parser.add_argument("--spec", metavar="FILE", help="its topics (default: those of the environment's robot)")
    parser.add_argument("--task", default="all", metavar="NAME", help="one task family (default all)")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S", help="seed of the first episode (default 0)")
    parser.add_argument("--lockstep", action="store_true", help="time waits for commands, instead of passing")
    add_dds_options(parser)


def run_sim(args: argparse.Namespace) -> None:
    from vla.robots.gym_sim import find_environment
    from vla.spec import RobotSpec

    if not args.dds:
        raise UserError("sim: say how it is to be reached: --dds")
    use_dds_options(args)
    from vla.robots.dds_sim import simulate

    robot = find_environment(args.env, args.task).robot
    spec = RobotSpec.load(assets.find("robot", args.spec or robot))
    simulate(args.env, spec, args.seed, args.task, args.domain, args.lockstep)


def domain(text: str) -> int:
    number = whole(0)(text)
    if number > 232:
        raise argparse.ArgumentTypeError(f"must be at most 232, got {text}")
    return number
