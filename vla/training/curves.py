"""Curves of a run as one PNG: what falls in training, and what matters on held-out data."""

from __future__ import annotations

import json
import math
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_NOT_DRAWN = {"kind", "step", "lr", "steps_per_s", "spent_s", "grad_norm"}


def plot_curves(log: Path, picture: Path) -> None:
    """Draw the training losses together, then one small panel per held-out number."""
    entries = [json.loads(line) for line in log.read_text().splitlines() if line.strip()]
    train = _series([entry for entry in entries if entry["kind"] == "train"])
    held_out = _series([entry for entry in entries if entry["kind"] == "held_out"])
    panels = 1 + len(held_out)
    columns = min(4, panels)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(4 * columns, 2.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for name, (steps, values) in train.items():
        axes[0].plot(steps, values, label=name, linewidth=1)
    if all(value > 0 for _, values in train.values() for value in values):
        axes[0].set_yscale("log")
    axes[0].set_title("training losses")
    if train:
        axes[0].legend(fontsize=7)
    for axis, (name, (steps, values)) in zip(axes[1:], held_out.items(), strict=False):
        axis.plot(steps, values, marker=".", linewidth=1, color="tab:orange")
        axis.set_title(f"held out: {name}", fontsize=9)
    for axis in axes[panels:]:
        axis.set_axis_off()
    figure.savefig(picture, dpi=80)


def _series(entries: list[dict]) -> dict[str, tuple[list[int], list[float]]]:
    series: dict[str, tuple[list[int], list[float]]] = {}
    for entry in entries:
        for name, value in entry.items():
            if name not in _NOT_DRAWN:
                steps, values = series.setdefault(name, ([], []))
                steps.append(entry["step"])
                values.append(value)
    return series
