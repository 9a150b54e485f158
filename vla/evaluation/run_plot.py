"""One picture of a run in wall-clock time: was the robot told in time, on how old a thought, in how much memory?"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vla.runtime.run_telemetry import RunTelemetry


def plot_run(file: Path, telemetry: RunTelemetry, receipts: Float[np.ndarray, " R"], nominal: float) -> None:
    """Write a PNG. receipts: when the robot received each command (s); nominal: the period it should have been (s)."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    began = telemetry.began
    figure, axes = pyplot.subplots(5, 1, figsize=(9, 10), sharex=True, layout="constrained")
    periods = 1e3 * np.diff(receipts)
    axes[0].plot(receipts[1:] - began, periods, ".", markersize=2)
    axes[0].axhline(1e3 * nominal, linewidth=0.8, color="grey")
    axes[0].set_ylabel("command period\nat the robot, ms")
    axes[1].plot(np.array(telemetry.s1_times) - began, telemetry.s1_ms, ".", markersize=3)
    axes[1].set_ylabel("S1 chunk, ms")
    axes[2].plot(np.array(telemetry.s2_times) - began, telemetry.s2_ms, ".", markersize=3)
    axes[2].set_ylabel("S2 thought, ms")
    ended = telemetry.ended or telemetry.began
    axes[3].plot(np.array(telemetry.age_times) - began, telemetry.ages, linewidth=0.8)
    for (since, waits), (until, _) in pairwise([*telemetry.holds, (ended, None)]):
        if waits is not None:
            axes[3].axvspan(since - began, until - began, color="tab:red", alpha=0.2)
    axes[3].set_ylabel("age of the thought, s\n(red: the robot holds)")
    for name in telemetry.memory[-1][1] if telemetry.memory else ():
        seen = [(moment - began, held[name]) for moment, held in telemetry.memory if name in held]
        axes[4].plot(*zip(*seen, strict=True), ".-", markersize=3, linewidth=0.8, label=name)
    axes[4].set_ylabel("memory, MB")
    axes[4].legend(fontsize="small", ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.3))
    axes[4].set_xlabel("s")
    axes[4].set_xlim(0, ended - began)
    for one in axes:
        one.set_ylim(bottom=0)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
