"""`vla spec`."""

from __future__ import annotations

import argparse
from typing import Any

from vla import assets
from vla.cli.common import add_command, add_group


def add(commands: Any) -> None:
    kinds = add_group(commands, "spec", "check and compare robot specs")
    what = "a spec file, a dataset, a checkpoint or a shipped robot"
    check = add_command(kinds, "check", _check, f"read {what} strictly and sum it up")
    check.add_argument("spec", help=what)
    diff = add_command(kinds, "diff", _diff, "print the entries that differ; exit code 1 if any do")
    diff.add_argument("a", help=what)
    diff.add_argument("b", help=what)


def _check(args: argparse.Namespace) -> None:
    from vla.spec import RobotSpec

    spec = RobotSpec.load(assets.find("robot", args.spec))
    spec.check_ros()
    cameras = ", ".join(f"{camera.name} {camera.width}x{camera.height}" for camera in spec.cameras) or "none"
    print(f"{spec.name}: cameras {cameras}; state {spec.state_size}; action {spec.action_size} ({spec.action.mode})")
    limits = "given" if spec.limits else "not given"
    print(f"{spec.rate_hz:g} Hz; gripper {spec.action.gripper or 'none'}; limits {limits}")


def _diff(args: argparse.Namespace) -> int:
    from vla.spec import RobotSpec

    mine, theirs = (RobotSpec.load(assets.find("robot", name)) for name in (args.a, args.b))
    lines = mine.diff(theirs, args.b, ros=True)
    print("\n".join(lines) if lines else "no difference")
    return 1 if lines else 0
