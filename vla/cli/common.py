"""What several commands share: how one is added, their common arguments, and what they write."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vla import assets
from vla.cli.arguments import device, environment, seconds, whole
from vla.errors import UserError

Run = Callable[[argparse.Namespace], int | None]
POLICY = "a shipped name, a folder or a hub id"
DRIVER = f"{POLICY}, or a server: ws://HOST:PORT"
TRAINING_SEED = 1_000_000
"""Demonstrations of the very scenes that a policy is then tested on would teach it the answers."""


def add_command(commands: Any, name: str, run: Run, about: str, epilog: str | None = None) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=_sentence(about), epilog=epilog, allow_abbrev=False)
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_group(commands: Any, name: str, about: str, title: str = "commands", metavar: str = "COMMAND") -> Any:
    """A command of commands; returns what these are added to."""
    parser = commands.add_parser(name, help=about, description=_sentence(about))
    return parser.add_subparsers(title=title, metavar=metavar, required=True)


def _sentence(about: str) -> str:
    return f"{about[0].upper()}{about[1:]}."


def add_policy(parser: argparse.ArgumentParser, what: str = POLICY) -> None:
    parser.add_argument("--policy", required=True, metavar="P", help=what)


def add_who_and_where(parser: argparse.ArgumentParser) -> None:
    add_policy(parser, DRIVER)
    parser.add_argument("--env", type=environment, default="tabletop", metavar="NAME", help="default tabletop")
    add_seed(parser)


def add_seed(parser: argparse.ArgumentParser, default: int = 0, why: str = "") -> None:
    told = f"seed of the first episode (default {default}{why})"
    parser.add_argument("--seed", type=whole(0), default=default, metavar="S", help=told)


def add_training_seed(parser: argparse.ArgumentParser) -> None:
    add_seed(parser, TRAINING_SEED, ": scenes that vla eval, from 0 on, does not ask for")


def add_delays(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--s2-delay", type=seconds, default=0.0, metavar="S", help="seconds per thought (default 0)")
    parser.add_argument("--s2-period", type=seconds, metavar="S", help="seconds between thoughts (default: the delay)")
    parser.add_argument("--s1-delay", type=whole(0), default=0, metavar="STEPS", help="steps per chunk (default 0)")


def add_workers(parser: argparse.ArgumentParser) -> None:
    told = "default: one per core; one in all where a policy is on a GPU"
    parser.add_argument("--workers", type=whole(1), metavar="W", help=told)


def add_lerobot_robot(parser: Any) -> None:
    parser.add_argument(
        "--robot-config",
        nargs="+",
        default=(),
        metavar="FILE|KEY=VALUE",
        help="with --robot lerobot: as LeRobot has it, type=so101_follower port=/dev/ttyACM0",
    )


def add_device(parser: Any, name: str = "--device") -> None:
    parser.add_argument(
        name, type=device, default="auto", metavar="D", help="of the model: auto (default), cpu, cuda, cuda:N"
    )


def add_which_robot(parser: Any) -> None:
    parser.add_argument("--robot", metavar="NAME", help="which, of a policy of several robots")


def add_dds_options(parser: Any) -> None:
    """Where to find the others."""
    parser.add_argument("--domain", type=whole(0, 232), metavar="N", help="DDS domain (default: ROS_DOMAIN_ID, or 0)")
    parser.add_argument("--loopback", action="store_true", help="speak DDS on this machine only")


def use_dds_options(args: argparse.Namespace) -> None:
    if args.loopback:
        from vla.robots.dds_bus import use_loopback

        use_loopback()


def refuse(args: argparse.Namespace, why: str, *names: str) -> None:
    """UserError for any of these options that was given, and would be ignored."""
    for name in names:
        if getattr(args, name) != args.parser.get_default(name):
            command = args.parser.prog.removeprefix("vla ")
            raise UserError(f"{command}: --{name.replace('_', '-')} {why}")


def check_outputs(**files: Path | None) -> None:
    """UserError for an output that cannot be written, before any work."""
    for name, file in files.items():
        if file:
            assets.check_file_writable(file, f"--{name}")


def write_json(file: Path, document: Any) -> None:
    """As `assets.write_file`."""
    assets.write_file(file, json.dumps(document, indent=2) + "\n", "--json")
