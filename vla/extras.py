"""Packages that only some commands need: that one is missing is said at their start, not after the work."""

from __future__ import annotations

import importlib.util

from vla.errors import UserError

RECORDING = ("lerobot", "datasets", "pyarrow")
"""What writes a LeRobot dataset."""


def need(extra: str, *packages: str) -> None:
    """UserError for the first of these that is not installed, with the extra of ours that has it; imports none."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"Python package {package} is missing: pip install 'vla[{extra}]'")
