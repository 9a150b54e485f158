"""Datasets recorded in parts, put together."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
from pathlib import Path

KEPT = "kept.txt"
"""In each part: how many of its items are in it."""


def kept_in(part: Path) -> int:
    return int((part / KEPT).read_text())


def join_parts(parts: list[Path], joined: Path) -> None:
    """One dataset of all parts, in order; their video files are taken over as they are."""
    from lerobot.datasets.aggregate import aggregate_datasets

    logging.getLogger("lerobot").setLevel(logging.ERROR)
    names = [f"vla/{part.name}" for part in parts]
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        aggregate_datasets(names, "vla/collected", roots=parts, aggr_root=joined, concatenate_videos=False)
    shutil.copy(parts[0] / "meta" / "robot_spec.yaml", joined / "meta" / "robot_spec.yaml")
