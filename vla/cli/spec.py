"""`vla spec`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vla import assets
from vla.cli.arguments import existing_folder
from vla.cli.common import add_command, add_group
from vla.errors import UserError


def add(commands: Any) -> None:
    kinds = add_group(commands, "spec", "draft, check and compare robot specs")
    what = "a spec file, a dataset, a checkpoint or a shipped robot"
    init = add_command(kinds, "init", _init, "draft the spec of a dataset that has none, with a comment on every guess")
    init.add_argument("dataset", type=existing_folder, metavar="DATASET", help="a LeRobot v3 dataset")
    init.add_argument("--out", type=Path, metavar="FILE", help="default DATASET/meta/robot_spec.yaml, where all look")
    init.add_argument("--force", action="store_true", help="replace a file that is there")
    check = add_command(kinds, "check", _check, f"read {what} strictly and sum it up")
    check.add_argument("spec", help=what)
    diff = add_command(kinds, "diff", _diff, "print the entries that differ; exit code 1 if any do")
    diff.add_argument("a", help=what)
    diff.add_argument("b", help=what)


def _init(args: argparse.Namespace) -> None:
    from vla.data.draft_spec import draft_spec

    file = args.out or args.dataset / "meta" / "robot_spec.yaml"
    if file.exists() and not args.force:
        raise UserError(f"spec init: {file} is there already; --force replaces it")
    text = draft_spec(args.dataset)
    assets.check_file_writable(file, "--out")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    print(text, end="")
    print(f"# {file}: {_to_check(text)} lines to check by eye")


def _check(args: argparse.Namespace) -> None:
    from vla.spec import RobotSpec
    from vla.streams import sources

    file = assets.find("robot", args.spec)
    spec = RobotSpec.load(file)
    for kind in ("camera", "state", "action") if spec.ros else ():
        sources(spec, kind)
    guarded = spec.limits is not None and spec.kinematics is not None
    if guarded:
        from vla.runtime.guarded import gate_of

        gate_of(spec)
    print(spec.summary)
    gate = "ready" if guarded else "needs limits and kinematics (docs/safety.md)"
    print(f"{spec.rate_hz:g} Hz; gripper {spec.action.gripper or 'none'}; safety gate: {gate}")
    if left := _to_check(file.read_text(encoding="utf-8")):
        print(f"lines that still say check: {left}; look at each, then remove the word")


def _to_check(text: str) -> int:
    """How many lines of a draft have `check` in their comment."""
    return sum("check" in line.partition("#")[2] for line in text.splitlines() if not line.startswith("#"))


def _diff(args: argparse.Namespace) -> int:
    from vla.spec import RobotSpec

    mine, theirs = (RobotSpec.load(assets.find("robot", name)) for name in (args.a, args.b))
    lines = mine.diff(theirs, args.b, whole=True)
    print("\n".join(lines) if lines else "no difference")
    return 1 if lines else 0
