"""Arguments of `vla data doctor` and `vla data view`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vla import assets
from vla.arguments import environment, existing_folder, whole

AddCommand = Callable[..., argparse.ArgumentParser]


def add_doctor(kinds: Any, command: AddCommand, run: Callable[[argparse.Namespace], int]) -> None:
    parser = command(kinds, "doctor", run, "find and explain what is wrong with a dataset; exit code 1 if anything is")
    parser.add_argument("directory", type=existing_folder, metavar="DIR", help="a LeRobot v3 dataset")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write an HTML page with a picture of each")
    parser.add_argument("--replay", action="store_true", help="drive the recorded actions through the simulator")
    parser.add_argument(
        "--env", type=environment, default="tabletop", metavar="E", help="of --replay (default tabletop)"
    )
    parser.add_argument("--policy", metavar="P", help="compare what this policy would do with what was recorded")
    parser.add_argument(
        "--episodes",
        type=whole(1),
        default=20,
        metavar="N",
        help="of --replay and --policy, evenly chosen (default 20)",
    )


def add_view(kinds: Any, command: AddCommand, run: Callable[[argparse.Namespace], int | None]) -> None:
    parser = command(kinds, "view", run, "look at a dataset: a page of frames, plots and text, or a file for rerun")
    parser.add_argument("directory", type=existing_folder, metavar="DIR", help="a LeRobot v3 dataset")
    parser.add_argument("--episode", type=whole(0), metavar="N", help="one episode (default: the first three)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="default DIR's name with .html, here")
    parser.add_argument("--rerun", type=Path, metavar="FILE", help="write an .rrd file instead, for the rerun viewer")


def check_outputs(**files: Path | None) -> None:
    """UserError for an output that cannot be written, before any work."""
    for name, file in files.items():
        if file:
            assets.check_file_writable(file, f"--{name}")
