"""`vla train`, `vla export` and `vla quantize`: commands that make policies."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vla import assets
from vla.cli.arguments import above_zero, weighted_folder, zero_or_more
from vla.cli.common import add_command, add_device, add_policy, add_which_robot
from vla.errors import UserError


def add(commands: Any) -> None:
    parser = add_command(commands, "train", _train, "train a policy; goes on where a run in --out stopped")
    parser.add_argument(
        "--dataset",
        required=True,
        nargs="+",
        type=weighted_folder,
        metavar="DIR[:WEIGHT]",
        help="one or more, mixed; the frames of one with weight 3 are drawn three times as often",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the run: checkpoints, log, plots")
    parser.add_argument("--recipe", metavar="FILE", help="a shipped name or a YAML file")
    add_device(parser)
    parser.add_argument("--policy", metavar="P", help="start from this policy's weights")
    parser.add_argument("--s2", metavar="P", help="start from the S2 of this policy, which is for another robot")
    parser.add_argument(
        "--autonomous",
        type=zero_or_more,
        default=1.0,
        metavar="W",
        help="weight of frames in which no person drove, in data of vla teleop; 0 leaves them out",
    )
    parser.add_argument(
        "--corrections", type=above_zero, default=1.0, metavar="W", help="of those in which one corrected a policy"
    )
    parser.add_argument(
        "--failures", type=zero_or_more, default=0.0, metavar="W", help="of takes that failed (default 0: left out)"
    )
    export = add_command(commands, "export", _export, "the same policy with S1 for ONNX Runtime, faster on a CPU")
    add_policy(export)
    add_which_robot(export)
    export.add_argument("--out", required=True, type=Path, metavar="DIR", help="where it goes")
    quantize = add_command(commands, "quantize", _quantize, "the same policy with S2's weights in int8")
    add_policy(quantize)
    quantize.add_argument("--out", required=True, type=Path, metavar="DIR", help="where it goes")


def _train(args: argparse.Namespace) -> None:
    recipe = assets.find("recipe", args.recipe) if args.recipe else None
    policy = str(assets.find("policy", args.policy)) if args.policy else None
    if args.policy and args.s2:
        raise UserError("train: --policy brings its own S2; give it or --s2")
    s2 = str(assets.find("policy", args.s2)) if args.s2 else None
    assets.check_folder_writable(args.out)
    from vla.training.examples import DriverWeights
    from vla.training.run import train

    drivers = DriverWeights(args.autonomous, args.corrections, args.failures)
    folders, weights = zip(*args.dataset, strict=True)
    train(
        folders,
        args.out,
        recipe,
        args.device,
        policy,
        weights=weights,
        s2=s2,
        drivers=drivers if drivers != DriverWeights() else None,
    )


def _export(args: argparse.Namespace) -> None:
    folder = assets.find("policy", args.policy)
    assets.check_folder_writable(args.out)
    from vla.training.export import export

    print(export(folder, args.out, args.robot))


def _quantize(args: argparse.Namespace) -> None:
    folder = assets.find("policy", args.policy)
    assets.check_folder_writable(args.out)
    from vla.training.quantize import quantize

    print(quantize(folder, args.out))
