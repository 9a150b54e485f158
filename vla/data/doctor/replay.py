"""`--replay`: recorded actions driven through a simulator, against where the robot was then.

Every second the simulated arm is put where the recorded one was, so that a moment's error is not carried on: what is
left says whether the actions, read as robot_spec.yaml has them, bring about the recorded movement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from vla.data.doctor.finding import Curve, Finding
from vla.data.doctor.recording import Recording
from vla.data.lerobot_v3 import ACTION, STATE
from vla.errors import UserError

WINDOW_S = 1.0
UNEXPLAINED = 0.5
"""Share of the movement: noise and contact leave less, a wrong sign, frame, unit or lag more."""


class Simulator(Protocol):
    """A simulated robot of the recording's spec; states (S,) and actions (A,) in the spec's units."""

    def pose(self, state: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
        """Put the arm there, at rest; returns the state it then has."""
        ...

    def step(self, action: Float[np.ndarray, " A"]) -> Float[np.ndarray, " S"]: ...


@dataclass(frozen=True)
class Drift:
    """One episode. drift, moved: of the tool in m, per window of WINDOW_S: how far off at its end, how far it went."""

    episode: int
    drift: tuple[float, ...]
    moved: tuple[float, ...]

    @property
    def unexplained(self) -> float:
        return float(np.sum(self.drift) / max(np.sum(self.moved), 1e-9))


def replay(
    recording: Recording, simulator: Simulator, episodes: int, advance: Callable[[int], None] = lambda _: None
) -> tuple[list[Drift], list[Finding]]:
    """Drift of `episodes` evenly chosen ones, but those with nothing to replay. Raises UserError as `tool_of` does."""
    place, length = tool_of(recording), max(1, round(WINDOW_S * recording.fps))
    states, actions = recording.vectors(STATE), recording.vectors(ACTION)
    results, curves = [], {}
    if not recording.fits_spec:
        return [], []
    for number in chosen(recording, episodes):
        rows = recording.episodes[number]
        drift, moved, off = [], [], []
        for start in range(rows.start, rows.stop - 1, length):
            stop = min(start + length, rows.stop - 1)
            if not (np.isfinite(states[start : stop + 1]).all() and np.isfinite(actions[start:stop]).all()):
                continue
            simulator.pose(states[start])
            for row in range(start, stop):
                now = simulator.step(actions[row])
                off.append(float(np.linalg.norm(now[place] - states[row + 1, place])))
            drift.append(off[-1])
            moved.append(float(np.linalg.norm(states[stop, place] - states[start, place])))
        if drift:
            results.append(Drift(number, tuple(drift), tuple(moved)))
            curves[number] = Curve.of("distance to the recorded tool, m", off)
        advance(1)
    wrong = [one for one in results if one.unexplained > UNEXPLAINED]
    if not wrong:
        return results, []
    wrong.sort(key=lambda one: -one.unexplained)
    return results, [
        Finding(
            "replay",
            f"in {len(wrong)} of {len(results)} episodes the recorded actions do not lead where the robot "
            "went: replayed, "
            f"the tool ends {100 * wrong[0].unexplained:.0f} % of its way off; a sign, frame, unit or lag is not as "
            "robot_spec.yaml says",
            () if len(wrong) == len(results) else tuple(one.episode for one in wrong),
            0,
            curves=(curves[wrong[0].episode],),
        )
    ]


def tool_of(recording: Recording) -> slice:
    """Where the tool is in the state. Raises UserError if that has no tool position."""
    spec = recording.spec
    tool = next((f for f in spec.state if f.unit == "m" and f.size == 3), None) if spec else None
    if spec is None or tool is None:
        raise UserError(f"--replay: {recording.root} needs a robot_spec.yaml whose state has a tool position (3, m)")
    return spec.state_slices[tool.name]


def summary(results: list[Drift]) -> dict[str, Any]:
    """For JSON and the console, in m."""
    if not results:
        return {"episodes": 0, "window_s": WINDOW_S, "unexplained": {}}
    drift = np.concatenate([one.drift for one in results])
    moved = np.concatenate([one.moved for one in results])
    return {
        "episodes": len(results),
        "window_s": WINDOW_S,
        "drift_m": {"median": float(np.median(drift)), "p95": float(np.quantile(drift, 0.95))},
        "moved_m": {"median": float(np.median(moved))},
        "unexplained": {str(one.episode): round(one.unexplained, 4) for one in results},
    }


def chosen(recording: Recording, episodes: int) -> list[int]:
    """So many episodes, evenly over the dataset."""
    numbers = list(recording.episodes)
    return [
        numbers[i] for i in np.unique(np.linspace(0, len(numbers) - 1, min(episodes, len(numbers))).round().astype(int))
    ]
