"""Checks of conventions: what the numbers mean, told from how commands and movements go together.

An alternative convention is only claimed where it explains the data better than the declared one by more than
chance allows; what chance allows comes from how many independent samples the data holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from vla.actions.rotations import wxyz_to_xyzw
from vla.data.doctor.finding import Check, Curve, Finding
from vla.data.doctor.motion import Pair, correlation, fisher, measured_by, state_layout, turns
from vla.data.doctor.patient import Patient, robust
from vla.data.lerobot_v3 import ACTION, STATE

SIGMAS = 5.0
LATEST = 0.25
"""s: position-controlled arms follow within 0.05 to 0.2; what is later was stamped late."""
BOOTSTRAPS, CERTAIN = 400, 0.995
DEGREES = 180 / np.pi
BETWEEN = np.sqrt(DEGREES)
"""A gain nearer to 57.3 than to 1 on a logarithmic scale."""
SHORT = 0.1
"""Share of the frames that may be in episodes left out where lags are looked for: those broken off hold few."""
FULL_TURNS = 4 * np.pi
"""rad: no arm winds its joints up further, and no rotation is written with larger angles."""


def _lag(patient: Patient) -> Iterator[Finding]:
    fps = patient.recording.fps
    for pair in patient.pairs:
        if pair.kind != "position":
            continue
        pair, longest = _long_enough(pair, fps)
        lags = np.arange(-longest, longest + 1)
        sums = np.array([[pair.sums(episode, int(lag)) for lag in lags] for episode in pair.command])
        best = _peak(sums.sum(0), lags)
        # Chance: the same over episodes drawn again with replacement.
        rng = np.random.default_rng(0)
        drawn = rng.integers(len(sums), size=(BOOTSTRAPS, len(sums)))
        peaks = np.array([_peak(sums[pick].sum(0), lags) for pick in drawn])
        size = sums[:, longest, 3].sum() / pair.inflation
        strong = correlation(sums.sum(0)).max() > SIGMAS / np.sqrt(max(size, 4.0))
        if strong and best < -0.5 and (peaks < -0.5).mean() > CERTAIN:
            says = f"what is commanded shows in the state {-best / fps:.2f} s before the command"
            yield _lag_finding(patient, pair, f"{says}: the action is recorded late, or the state early", (), best)
        elif strong and best / fps > LATEST and (peaks / fps > LATEST).mean() > CERTAIN:
            says = f"the state follows the action only after {best / fps:.2f} s"
            yield _lag_finding(
                patient, pair, f"{says} (arms follow within {LATEST:g} s): the state is recorded late", (), best
            )
        else:
            yield from _odd_lags(patient, pair, sums, lags, best)


def _long_enough(pair: Pair, fps: float) -> tuple[Pair, int]:
    """The longest lag to look for, at most 1 s, and the pair without episodes too short to show it (SHORT)."""
    lengths = sorted(len(x) for x in pair.command.values())
    typical = lengths[int(np.searchsorted(np.cumsum(lengths), SHORT * sum(lengths)))]
    longest = min(round(fps), typical // 3)
    command, response = (
        {number: x for number, x in side.items() if len(x) >= 3 * longest} for side in (pair.command, pair.response)
    )
    return replace(pair, command=command, response=response), longest


def _odd_lags(patient: Patient, pair: Pair, sums: np.ndarray, lags: np.ndarray, usual: float) -> Iterator[Finding]:
    """Episodes whose lag is another than the dataset's, by more than their noise."""
    r = correlation(sums)
    own = lags[r.argmax(1)]
    gain = fisher(r.max(1)) - fisher(r[:, np.argmin(np.abs(lags - usual))])
    middle, sigma = robust(gain)
    sizes = np.maximum(sums[:, len(lags) // 2, 3] / pair.inflation, 4.0)
    odd = (np.abs(own - usual) >= 1.5) & (gain > middle + SIGMAS * max(sigma, 1e-3))
    odd &= gain > SIGMAS / np.sqrt(sizes)
    if odd.any():
        numbers = [number for number, is_odd in zip(pair.command, odd, strict=True) if is_odd]
        lag = float(own[odd][np.argmax(gain[odd])])
        numbers.insert(0, numbers.pop(int(np.argmax(gain[odd]))))
        fps = patient.recording.fps
        yield _lag_finding(
            patient,
            pair,
            f"action and state are {(lag - usual) / fps:+.2f} s further apart than in the other episodes",
            tuple(numbers),
            lag,
        )


def _lag_finding(patient: Patient, pair: Pair, message: str, episodes: tuple[int, ...], lag: float) -> Finding:
    shown = episodes[0] if episodes else next(iter(pair.command))
    x, y = pair.command[shown], pair.response[shown]
    entry = int(np.argmax(x.std(0)))
    frame = pair.first + int(np.argmax(np.abs(x[:, entry])))
    curves = Curve.of("commanded step", x[:, entry]), Curve.of("measured step", y[:, entry])
    return Finding("lag", f"{pair.name}: {message}", episodes, frame, curves=curves, since=pair.first)


def _peak(sums: np.ndarray, lags: np.ndarray) -> float:
    """The lag of the largest correlation, between samples by the parabola through three."""
    r = correlation(sums)
    top = int(np.argmax(r))
    if not 0 < top < len(r) - 1:
        return float(lags[top])
    bend = r[top - 1] - 2 * r[top] + r[top + 1]
    return float(lags[top] + (0.5 * (r[top - 1] - r[top + 1]) / bend if bend < 0 else 0.0))


def _degrees(patient: Patient) -> Iterator[Finding]:
    yield from _huge_angles(patient)
    spec = patient.recording.spec
    assert spec is not None
    angles = {field.name for field in (*spec.state, *spec.action.fields) if field.unit == "rad"}
    for pair in patient.pairs:
        commanded, measured = pair.name.split(" and ")
        if {commanded, measured}.isdisjoint(angles):
            continue
        lag = _usual_lag(pair)
        sums = {number: pair.sums(number, lag) for number in pair.command}
        r = {number: float(correlation(one)) for number, one in sums.items()}
        # Whether the two go together at all is asked of all episodes at once, each on its own scale.
        weight = {number: one[3] / pair.inflation for number, one in sums.items()}
        together = sum(weight[n] * r[n] for n in r) / np.sqrt(max(sum(weight.values()), 1.0))
        if together < SIGMAS:
            continue
        for factor, culprit in ((BETWEEN, measured), (1 / BETWEEN, commanded)):
            gains = {n: _gain(pair, n) for n in r if r[n] > 0}
            found = {n: gain for n, gain in gains.items() if (gain > factor if factor > 1 else gain < factor)}
            if found:
                yield _degree_finding(patient, pair, found, culprit)


def _gain(pair: Pair, number: int) -> float:
    """How much more is measured than commanded in an episode; 1 where nothing is commanded."""
    asked, moved = (float(np.sum(side[number] ** 2)) for side in (pair.command, pair.response))
    return float(np.sqrt(moved / asked)) if asked > 1e-12 and moved > 1e-12 else 1.0


def _degree_finding(patient: Patient, pair: Pair, gains: Mapping[int, float], culprit: str) -> Finding:
    number = next(iter(gains))
    entry = int(np.argmax(pair.command[number].std(0)))
    gain = float(np.median(list(gains.values())))
    return Finding(
        "degrees",
        f"{pair.name}: the movement is {gain:.3g} times the command, near 180/pi or its inverse: {culprit} is "
        "in degrees, "
        "robot_spec.yaml says rad; multiply by pi/180",
        () if len(gains) == len(patient.recording.episodes) else tuple(gains),
        0,
        curves=(
            Curve.of("commanded step", pair.command[number][:, entry]),
            Curve.of("measured step", pair.response[number][:, entry]),
        ),
        since=pair.first,
    )


def _huge_angles(patient: Patient) -> Iterator[Finding]:
    recording, spec = patient.recording, patient.recording.spec
    assert spec is not None
    for key, fields, slices in (
        (STATE, spec.state, spec.state_slices),
        (ACTION, spec.action.fields, spec.action_slices),
    ):
        values = recording.vectors(key)
        for field in fields:
            if field.unit != "rad" or values.shape[1] < slices[field.name].stop:
                continue
            part = np.abs(values[:, slices[field.name]])
            huge = {n: part[rows] for n, rows in patient.episodes() if np.nanmax(part[rows], initial=0) > FULL_TURNS}
            if huge:
                number = next(iter(huge))
                frame, entry = np.unravel_index(np.nanargmax(huge[number]), huge[number].shape)
                name = recording.names(key)[slices[field.name]][int(entry)]
                yield Finding(
                    "degrees",
                    f"{key}: {name} reaches {huge[number].max():.4g}, which is "
                    f"{huge[number].max() / 2 / np.pi:.0f} full turns "
                    "in rad, as robot_spec.yaml has it: these are degrees; multiply by pi/180",
                    () if len(huge) == len(recording.episodes) else tuple(huge),
                    int(frame),
                    curves=(Curve.of(name, values[recording.episodes[number], slices[field.name]][:, int(entry)]),),
                )


def _quaternions(patient: Patient) -> Iterator[Finding]:
    recording, spec = patient.recording, patient.recording.spec
    assert spec is not None
    state = recording.vectors(STATE)
    for pair in patient.pairs:
        field = next((f for f in spec.action.fields if f.name == pair.name.split(" and ")[0]), None)
        twin = measured_by(spec, field) if field else None
        if twin is None or twin.rotation != "quaternion_xyzw":
            continue
        lag, declared, other = _usual_lag(pair), {}, {}
        for number in pair.command:
            values = wxyz_to_xyzw(state[recording.episodes[number], spec.state_slices[twin.name]])
            declared[number] = pair.sums(number, lag)
            other[number] = pair.sums(number, lag, turns(values, "quaternion_xyzw")[pair.first :])
        yield from _better(patient, pair, declared, other, twin.name)


def _better(
    patient: Patient, pair: Pair, declared: Mapping[int, Any], other: Mapping[int, Any], name: str
) -> Iterator[Finding]:
    """Where the other order fits better by SIGMAS: episode by episode, or all together where they are short."""

    def z(one: np.ndarray, two: np.ndarray) -> float:
        independent = max(one[3] / pair.inflation, 4.0)
        return float((fisher(correlation(two)) - fisher(correlation(one))) * np.sqrt((independent - 3) / 2))

    scores = {number: z(declared[number], other[number]) for number in declared}
    odd = [number for number, score in scores.items() if score > SIGMAS]
    whole = z(sum(declared.values()), sum(other.values()))
    if not odd and whole <= SIGMAS:
        return
    everywhere = whole > SIGMAS
    worst = max(scores, key=lambda number: scores[number])
    r = [float(correlation(side[worst])) for side in (declared, other)]
    yield Finding(
        "quaternion order",
        f"state {name}: read as x, y, z, w its turns go with the commands at {r[0]:.2f}, as w, x, y, z at {r[1]:.2f} "
        "(correlation): w comes first; move it to the end",
        () if everywhere else (worst, *(number for number in odd if number != worst)),
        0,
    )


def _usual_lag(pair: Pair) -> int:
    """The lag at which command and response agree best, whatever their sign; negative ones are another check's."""
    lags = range(min(4, max(len(x) for x in pair.command.values()) - 1))
    sums = np.array([sum(pair.sums(number, lag) for number in pair.command) for lag in lags])
    return int(np.argmax(np.abs(correlation(sums))))


def _gripper(patient: Patient) -> Iterator[Finding]:
    recording, spec = patient.recording, patient.recording.spec
    state_at, action_at = _gripper_columns(patient)
    if state_at is None or action_at is None:
        return
    measured, asked = recording.vectors(STATE)[:, state_at], recording.vectors(ACTION)[:, action_at]
    if not (np.isfinite(measured).all() and np.isfinite(asked).all()):
        return
    delay = max(1, round(0.1 * recording.fps))
    agree = {}
    for number, rows in patient.episodes():
        a, s = asked[rows][:-delay], measured[rows][delay:]
        if len(a) >= 4 and np.ptp(a) > 0.5 * np.ptp(asked) > 0 and np.ptp(s) > 0.2 * np.ptp(measured) > 0:
            agree[number] = float(np.corrcoef(a, s)[0, 1])
    if not agree:
        return
    # A state field named gripper measures the opening; only the action's direction is declared.
    sign = -1.0 if spec is not None and spec.action.gripper == "0 = open, 1 = closed" else 1.0
    values = sign * np.array(list(agree.values()))
    enough = 0.5 * float(np.median(np.abs(values)))
    # Without a spec, one name says that it is the same quantity; under two, what most episodes do is right.
    one_name = recording.names(STATE)[state_at] == recording.names(ACTION)[action_at]
    right = 1.0 if spec is not None or one_name else np.sign(np.median(values))
    wrong = [number for number, value in zip(agree, values, strict=True) if value * right < -enough]
    whole = len(wrong) == len(agree) and len(recording.episodes) > 1
    if wrong:
        yield Finding(
            "gripper",
            f"the gripper opens when told to close in {len(wrong)} of {len(agree)} episodes where it moves "
            "(correlation "
            f"{agree[wrong[0]]:.2f}; median of all {np.median(list(agree.values())):.2f}): its action is inverted"
            + (f", robot_spec.yaml says {spec.action.gripper}" if spec and spec.action.gripper else ""),
            () if whole else tuple(wrong),
            int(np.argmax(np.abs(np.diff(asked[recording.episodes[wrong[0]]])))),
            curves=(
                Curve.of("commanded", asked[recording.episodes[wrong[0]]]),
                Curve.of("measured", measured[recording.episodes[wrong[0]]]),
            ),
        )


def _gripper_columns(patient: Patient) -> tuple[int | None, int | None]:
    recording, spec = patient.recording, patient.recording.spec
    if spec is not None:
        here, there = state_layout(recording).get("gripper"), spec.action_slices.get("gripper")
        fits = recording.vectors(ACTION).shape[1] == spec.action_size
        return (here.start if here else None), (there.start if there and fits else None)
    found = [
        next((i for i, name in enumerate(recording.names(key)) if "gripper" in name), None) for key in (STATE, ACTION)
    ]
    return found[0], found[1]


CHECKS = (
    Check("lag", "state follows action, neither before it nor late", _lag, ("motion",)),
    Check("degrees", "angles in rad", _degrees, ("spec",)),
    Check("quaternion order", "quaternions as x, y, z, w", _quaternions, ("spec", "motion")),
    Check("gripper", "the gripper goes where it is told", _gripper),
)
