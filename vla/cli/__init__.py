"""The `vla` command: reads arguments, checks them, and calls the room that does the work; a module for each group.

Exit codes: 0 done, 2 bad usage or input (one line on stderr, no traceback), 130 interrupted, 1 anything else.
Heavy imports happen inside the commands, so that `vla --help` and a typing mistake answer at once.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from vla import __version__
from vla.cli import bench, data, evaluation, serving, sim, spec, teleoperation, training
from vla.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        args = build_parser().parse_args(argv)
        return args.run(args) or 0
    except UserError as error:
        print(f"vla: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vla: interrupted", file=sys.stderr)
        return 130
    except Exception:
        traceback.print_exc()
        return 1


class _Parser(argparse.ArgumentParser):
    """Usage errors in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="vla", description="A two-speed vision-language-action policy.")
    parser.add_argument("--version", action="version", version=f"vla {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in (data, training, evaluation, serving, sim, teleoperation, spec, bench):
        group.add(commands)
    return parser
