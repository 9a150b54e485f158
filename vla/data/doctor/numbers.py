"""Checks of the numbers themselves: not finite, still, or further than the robot can go in a step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla.data.doctor.finding import Check, Curve, Finding
from vla.data.doctor.motion import state_layout
from vla.data.doctor.patient import Patient, robust, runs
from vla.data.lerobot_v3 import ACTION, STATE
from vla.spec import si_scale

LIMIT_SLACK = 1.5
"""A frame that comes half a period late makes a speed look half as much again."""
SPIKE_SIGMAS = 8.0
"""Of the logarithm of how far episodes' largest steps reach; and at least SPIKE_TIMES their median."""
SPIKE_TIMES = 4.0
ALONE = 4.0
"""A glitch is one step, or one out and one back; a push goes on for several. So often the median step around it."""
STUCK = 8
"""Frames in a row at one value before a measured entry may count as stuck."""


def _finite(patient: Patient) -> Iterator[Finding]:
    recording = patient.recording
    for key, column in recording.columns.items():
        if not np.issubdtype(column.dtype, np.floating):
            continue
        values = column.reshape(len(recording), -1)
        bad = np.flatnonzero(~np.isfinite(values).all(1))
        if not bad.size:
            continue
        episode, frame = recording.place(int(bad[0]))
        others = sorted({recording.place(int(row))[0] for row in bad} - {episode})
        entry = int(np.flatnonzero(~np.isfinite(values[bad[0]]))[0])
        yield Finding(
            "not finite",
            f"{key}: {recording.names(key)[entry]} is {values[bad[0], entry]}, {bad.size} rows in all: one of "
            "them makes a "
            "training loss NaN; leave those episodes out, or fill the gap if it is short",
            (episode, *others),
            frame,
            curves=(Curve.of(recording.names(key)[entry], values[recording.episodes[episode], entry]),),
        )


def _over_limits(patient: Patient) -> Iterator[Finding]:
    recording, spec = patient.recording, patient.recording.spec
    assert spec is not None and spec.limits is not None
    limits, state = spec.limits, recording.vectors(STATE)
    if state.shape[1] != spec.state_size or not np.isfinite(state).all():
        return
    places, own = state_layout(recording), ~patient.pushed[:, None]
    turning = (f for f in spec.state if f.unit in ("rad", "deg") and not f.rotation)
    joints = next((f for f in turning if f.size == len(limits.velocity)), None)
    if joints:
        here, scale = places[joints.name], float(si_scale([joints])[0])
        low, high = np.array(limits.position).T
        angles = state[:, here] * scale
        outside = np.maximum(low - angles, angles - high)
        reach = np.array(limits.velocity) / spec.rate_hz / scale
        yield from _worst(patient, here, outside / (high - low), 0.02, "position", "is outside its limits")
        speed = np.abs(patient.steps[:, here]) / reach * own
        yield from _worst(patient, here, speed, LIMIT_SLACK, "speed", "moves faster than its limit")
    tool = next((f for f in spec.state if f.unit == "m" and f.size == 3), None)
    if tool:
        here = places[tool.name]
        speed = np.linalg.norm(patient.steps[:, here], axis=1) * spec.rate_hz / limits.tool_speed
        yield from _worst(patient, here, speed[:, None] * own, LIMIT_SLACK, "tool speed", "moves faster than its limit")


def _worst(patient: Patient, here: slice, ratio: np.ndarray, most: float, what: str, verb: str) -> Iterator[Finding]:
    rows = np.flatnonzero((ratio > most).any(1))
    if not rows.size:
        return
    row = int(rows[np.nanargmax(ratio[rows].max(1))])
    entry = int(np.nanargmax(ratio[row]))
    episode, frame = patient.recording.place(row)
    others = sorted({patient.recording.place(int(one))[0] for one in rows} - {episode})
    name = patient.recording.names(STATE)[here][entry]
    amount = f"{ratio[row, entry]:.3g} times" if most >= 1 else f"{100 * ratio[row, entry]:.0f} % of its range beyond"
    yield Finding(
        "jump",
        f"{name} {verb}: {what} {amount} what robot_spec.yaml allows, {rows.size} rows in all; a robot asked "
        "to do this "
        "stops, or worse",
        (episode, *others),
        frame,
        curves=(Curve.of(name, patient.recording.vectors(STATE)[patient.recording.episodes[episode], here][:, entry]),),
    )


def _spikes(patient: Patient) -> Iterator[Finding]:
    """Steps far larger than those that any other episode makes, told from the spread among episodes."""
    recording = patient.recording
    for key in (STATE, ACTION):
        values = patient.paths[key]
        if not np.isfinite(values).all() or not values.shape[1] or len(recording.episodes) < 4:
            continue
        numbers, places = zip(*recording.episodes.items(), strict=True)
        # A relative command is a step itself, and may well turn round.
        relative = key == ACTION and recording.spec is not None and recording.spec.action.is_relative
        steps = [
            np.abs(values[rows] if relative else np.diff(values[rows], axis=0, prepend=values[rows][:1]))
            for rows in places
        ]
        largest = np.stack([part.max(0) for part in steps])
        spread = np.quantile(values, 0.99, axis=0) - np.quantile(values, 0.01, axis=0)
        for entry, name in enumerate(recording.names(key)):
            # A gripper is closed in some episodes only, and then all at once.
            if "gripper" in name or not (largest[:, entry] > 0).any():
                continue
            logs = np.log(largest[:, entry] + 1e-3 * max(spread[entry], 1e-9))
            middle, sigma = robust(logs)
            over = logs - middle
            out = np.flatnonzero((over > SPIKE_SIGMAS * sigma) & (over > np.log(SPIKE_TIMES)))
            out = np.array([i for i in out if _alone(steps[i][:, entry])], int)
            if out.size:
                worst = int(out[np.argmax(over[out])])
                frame = int(np.argmax(steps[worst][:, entry]))
                others = [numbers[i] for i in out if i != worst]
                yield Finding(
                    "jump",
                    f"{key}: {name} jumps by {largest[worst, entry]:.3g} in one frame; the largest step of an "
                    "episode is "
                    f"{np.median(largest[:, entry]):.3g} as a rule: a glitch of the sensor, or a cut in the recording",
                    (numbers[worst], *others),
                    frame,
                    curves=(Curve.of(name, values[places[worst], entry]),),
                )


def _alone(steps: np.ndarray) -> bool:
    """Whether the largest step stands out from the five before and after it."""
    top = int(np.argmax(steps))
    around = np.concatenate([steps[max(0, top - 5) : top], steps[top + 1 : top + 6]])
    return bool(steps[top] > ALONE * np.median(around)) if len(around) else False


def _constant(patient: Patient) -> Iterator[Finding]:
    recording = patient.recording
    for key in (STATE, ACTION):
        values = recording.vectors(key)
        if not values.shape[1] or len(values) < 2:
            continue
        same = np.ptp(values, axis=0) == 0
        if same.any():
            names = [name for name, still in zip(recording.names(key), same, strict=True) if still]
            yield Finding(
                "constant",
                f"{key}: {', '.join(names[:6])} never changes: dividing by its spread fails, and a policy "
                "learns nothing "
                "from it; take it out, or find out why it is still",
            )
        if key == STATE:  # a command may well stay at its limit
            yield from _stuck(patient, key, values, same)


def _stuck(patient: Patient, key: str, values: np.ndarray, same: np.ndarray) -> Iterator[Finding]:
    """An entry that stays exactly equal in one episode while the arm moves, and never does so in most others."""
    recording, found = patient.recording, {}
    for entry in np.flatnonzero(~same):
        longest = {}
        for number, rows in patient.episodes():
            own = values[rows, entry]
            equal = (own[1:] == own[:-1]) & (patient.speed[rows][1:] > patient.rest)
            longest[number] = max(((b - a, a) for a, b in runs(equal)), default=(0, 0))
        usual = np.array([length for length, _ in longest.values()])
        # Usual is what three in four episodes keep to: where entries repeat by nature, longer runs are expected.
        most = max(STUCK, 3 * float(np.quantile(usual, 0.75)))
        found[int(entry)] = {number: start for number, (length, start) in longest.items() if length >= most}
    for entry, stuck in found.items():
        if stuck:
            first = min(stuck, key=lambda number: stuck[number])
            name = recording.names(key)[entry]
            yield Finding(
                "constant",
                f"{key}: {name} stays at {values[recording.episodes[first].start + stuck[first], entry]:.4g} "
                "while the rest "
                "of the robot moves: a cable or a driver hung",
                (first, *(number for number in stuck if number != first)),
                stuck[first],
                curves=(Curve.of(name, values[recording.episodes[first], entry]),),
            )


CHECKS = (
    Check("not finite", "NaN and infinity in any column", _finite),
    Check("limits", "positions and speeds within robot_spec.yaml", _over_limits, ("limits",)),
    Check("jump", "steps no other episode makes", _spikes),
    Check("constant", "entries that never change, or hang in one episode", _constant),
)
