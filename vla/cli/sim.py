"""`vla sim`."""

from __future__ import annotations

import argparse
from typing import Any

from vla import assets
from vla.cli.arguments import environment
from vla.cli.common import add_command, add_dds_options, add_seed, use_dds_options
from vla.errors import UserError


def add(commands: Any) -> None:
    parser = add_command(commands, "sim", _sim, "offer a simulated robot to others")
    parser.add_argument("--dds", action="store_true", help="as a ROS 2 robot over DDS, without ROS")
    parser.add_argument("--env", type=environment, default="tabletop", metavar="NAME", help="default tabletop")
    parser.add_argument("--spec", metavar="FILE", help="its topics (default: those of the environment's robot)")
    parser.add_argument("--task", default="all", metavar="NAME", help="one task family (default all)")
    add_seed(parser)
    parser.add_argument("--lockstep", action="store_true", help="time waits for commands, instead of passing")
    add_dds_options(parser)


def _sim(args: argparse.Namespace) -> None:
    from vla.robots.gym_sim import find_environment
    from vla.spec import RobotSpec

    if not args.dds:
        raise UserError("sim: say how it is to be reached: --dds")
    use_dds_options(args)
    from vla.robots.dds_sim import simulate

    robot = find_environment(args.env, args.task).robot
    spec = RobotSpec.load(assets.find("robot", args.spec or robot))
    simulate(args.env, spec, args.seed, args.task, args.domain, args.lockstep)
