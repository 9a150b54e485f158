"""Checks of time itself: frames recorded twice, and frames that are missing.

What happens to time happens to everything at once, which tells it from a sensor that hangs or jumps alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla.data.doctor.cameras import live
from vla.data.doctor.finding import Check, Curve, Finding
from vla.data.doctor.patient import Patient, robust, runs
from vla.data.lerobot_v3 import ACTION, STATE

ALIKE = 0.7
"""Cosine of the angle between steps, each entry in its own spread: within 45 degrees."""
REPEATED = 0.1
"""Of the change of the picture before or after: a codec makes less of one picture shown twice, a scene does not."""
DROP_SIGMAS = 4.0
"""In each stream on its own; that two or three err so far in the same frame is no chance."""


def _duplicated(patient: Patient) -> Iterator[Finding]:
    recording = patient.recording
    if not recording.vectors(STATE).shape[1]:
        return
    twice = np.all(patient.steps == 0, axis=1)
    seen = [track.change for track in patient.tracks.values() if live(track)]
    if not seen:
        action = recording.vectors(ACTION)
        twice[1:] &= np.all(np.diff(action, axis=0) == 0, axis=1) if action.shape[1] else False
    found: dict[int, tuple[int, int]] = {}
    total = 0
    for number, rows in patient.episodes():
        for a, b in runs(twice[rows]):
            moving = min(_around(patient.speed[rows], a, b)) > patient.rest
            if moving and all(
                np.mean(change[rows][a:b]) < REPEATED * max(_around(change[rows], a, b)) for change in seen
            ):
                total += b - a
                found.setdefault(number, (a, b - a))
    if found:
        first, (frame, length) = next(iter(found.items()))
        yield Finding(
            "duplicated frames",
            f"{total} frames repeat the one before in state and pictures, in the middle of a movement "
            f"({length} in a row "
            "here): take them out, or the policy learns to stop",
            tuple(found),
            frame,
            curves=(Curve.of("speed", patient.speed[recording.episodes[first]]),),
        )


def _around(values: np.ndarray, start: int, stop: int) -> list[float]:
    """The values before and after a run; 0 beyond the episode's ends, where nothing can be told."""
    before = values[start - 1] if start > 1 else np.nan
    after = values[stop] if stop < len(values) else np.nan
    known = [float(value) for value in (before, after) if np.isfinite(value)]
    return known or [0.0]


def _dropped(patient: Patient) -> Iterator[Finding]:
    streams = [patient.speed, *(track.change for track in patient.tracks.values() if live(track))]
    if len(streams) < 2:
        return
    scores = np.stack([_leaps(stream) for stream in streams])
    together = np.where(np.isfinite(scores).all(0), scores.min(0), -np.inf)
    rows = np.flatnonzero((together > DROP_SIGMAS) & ~patient.pushed)
    _, noise = robust(_ratios(patient.speed))
    least = 2 * np.exp(-2 * noise)  # one lost frame makes a step of two, less two standard deviations
    rows = rows[[_goes_on(patient, int(row), max(1.5, float(least))) for row in rows]]
    if not rows.size:
        return
    first = int(rows[np.argmax(together[rows])])
    episode, frame = patient.recording.place(first)
    others = sorted({patient.recording.place(int(row))[0] for row in rows} - {episode})
    near = patient.speed[first - 1 : first + 2]
    place = patient.recording.episodes[episode]
    curves = [Curve.of("speed", patient.speed[place])]
    curves += [Curve.of(f"change, {t.name}", t.change[place]) for t in patient.tracks.values() if live(t)]
    yield Finding(
        "dropped frames",
        f"state and pictures all go about {near[1] / max(1e-9, (near[0] + near[2]) / 2):.1f} times as far in "
        "one frame as "
        "before and after it: frames are missing there; cut the episode in two",
        (episode, *others),
        frame,
        curves=tuple(curves),
    )


def _goes_on(patient: Patient, row: int, least: float) -> bool:
    """Whether the leap, `least` times as far or more, leads where the steps before and after it do; a push does not."""
    near = patient.speed[row - 1 : row + 2]
    if near[1] < least * (near[0] + near[2]) / 2:
        return False
    scale = np.sqrt(np.nanmean(patient.steps**2, axis=0)).clip(1e-9)
    before, leap, after = patient.steps[row - 1 : row + 2] / scale

    def alike(one: np.ndarray, two: np.ndarray) -> float:
        return float(one @ two / max(float(np.linalg.norm(one) * np.linalg.norm(two)), 1e-9))

    return min(alike(leap, before), alike(leap, after)) > ALIKE


def _leaps(stream: np.ndarray) -> np.ndarray:
    """How many standard deviations the step into each row is longer than its neighbours', on a logarithmic scale."""
    ratio = _ratios(stream)
    middle, sigma = robust(ratio)
    return (ratio - middle) / max(sigma, 1e-3)


def _ratios(stream: np.ndarray) -> np.ndarray:
    """Logarithm of each step over its neighbours' mean; NaN beside what may be standing still, which says nothing."""
    floor = 0.1 * float(np.nanmedian(stream)) + 1e-9
    ratio = np.full(len(stream), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        around = np.minimum(stream[:-2], stream[2:])
        ratio[1:-1] = np.where(around > floor, np.log(stream[1:-1].clip(1e-9) / (stream[:-2] + stream[2:]) * 2), np.nan)
    return ratio


CHECKS = (
    Check("duplicated frames", "state and pictures repeat in the middle of a movement", _duplicated),
    Check("dropped frames", "state and pictures leap at once", _dropped, ("pictures",)),
)
