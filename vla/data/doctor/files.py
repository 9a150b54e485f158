"""Checks of what the files say about each other: counts, times, texts, statistics, and the robot spec."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla.actions.rotations import TO_MATRIX
from vla.data.doctor.finding import Check, Curve, Finding
from vla.data.doctor.patient import Patient
from vla.data.lerobot_v3 import ACTION, IMAGES, STATE
from vla.spec import Field, RobotSpec, field_slices

TIME_TOLERANCE = 1e-4
"""LeRobot's own, s: frames further from their time are refused when it reads."""
STATS_TOLERANCE = 1e-3
"""Of a standard deviation: float32 sums over a million frames err by less."""
STATS_SIGMAS = 6.0
"""For pictures, whose statistics come from a sample of frames."""


def _timestamps(patient: Patient) -> Iterator[Finding]:
    recording = patient.recording
    if "timestamp" not in recording.columns:
        yield Finding("timestamps", "the data has no timestamp column; LeRobot cannot read it: write it again")
        return
    times, wrong = recording.columns["timestamp"].ravel().astype(np.float64), []
    worst: tuple[float, int, int] = (0.0, 0, 0)
    for number, rows in patient.episodes():
        due = np.arange(rows.stop - rows.start) / recording.fps
        off = np.abs(times[rows] - due)
        # float32 holds large times less well than the tolerance.
        if (
            beyond := np.flatnonzero(~(off <= np.maximum(TIME_TOLERANCE, 2 * np.spacing(due.astype(np.float32)))))
        ).size:
            wrong.append(number)
            if not off[beyond[0]] <= worst[0]:
                worst = float(off[beyond].max()), number, int(beyond[0])
    if wrong:
        error, number, frame = worst
        rows = recording.episodes[number]
        yield Finding(
            "timestamps",
            f"timestamps differ from frame / {recording.fps:g} Hz by up to {error:.4g} s: frames were lost or "
            "late, or the "
            "rate is another; keep capture times in a column of their own and re-sample to a steady rate",
            (number, *(one for one in wrong if one != number)),
            frame,
            curves=(Curve.of("time between frames, s", np.diff(times[rows])),),
        )


def _numbering(patient: Patient) -> Iterator[Finding]:
    """Rows, frame_index and the episode table agree on how long every episode is."""
    recording = patient.recording
    for entry in recording.entries:
        rows = recording.episodes.get(entry.number)
        length = 0 if rows is None else rows.stop - rows.start
        if length != entry.stop - entry.start:
            yield Finding(
                "frame count",
                f"meta/episodes says {entry.stop - entry.start} frames, the data has {length} rows; write it again",
                (entry.number,),
            )
    unknown = sorted(set(recording.episodes) - {entry.number for entry in recording.entries})
    if unknown:
        yield Finding("frame count", "the data has rows of episodes that meta/episodes does not list", tuple(unknown))
    for number, rows in patient.episodes():
        index = recording.columns.get("frame_index", np.arange(0)).ravel()[rows]
        if len(index) and (wrong := np.flatnonzero(index != np.arange(len(index)))).size:
            yield Finding(
                "frame count",
                f"frame_index is {index[wrong[0]]} where {wrong[0]} is due: frames are missing or out of order",
                (number,),
                int(wrong[0]),
            )


def _videos(patient: Patient) -> Iterator[Finding]:
    for key, track in patient.tracks.items():
        for file, reason in track.unreadable.items():
            yield Finding("frame count", f"{file} cannot be decoded: {reason}", camera=track.name)
        lacking, first = [], None
        for number, rows in patient.episodes():
            missing = np.flatnonzero(~np.isfinite(track.spread[rows]))
            if missing.size:
                lacking.append(number)
                first = int(missing[0]) if first is None else first
        if lacking:
            total = int(np.sum(~np.isfinite(track.spread)))
            yield Finding(
                "frame count",
                f"{total} rows have no frame in the video: it ended early or lost frames; record or encode it again",
                tuple(lacking),
                first,
                track.name,
            )
        for file, (there, needed) in track.counts.items():
            if there > needed:
                yield Finding(
                    "frame count",
                    f"{file} has {there} frames, its episodes need {needed}: pictures and rows may be shifted",
                    camera=track.name,
                )
        for entry in patient.recording.entries:
            rows_of = patient.recording.episodes.get(entry.number)
            if key not in entry.videos or rows_of is None:
                continue
            _, _, begin, end = entry.videos[key]
            span, length = (end - begin) * patient.recording.fps, rows_of.stop - rows_of.start
            if abs(span - length) > 0.5:
                yield Finding(
                    "frame count",
                    f"meta/episodes gives it {span:.1f} frames of video, the data has {length} rows",
                    (entry.number,),
                    camera=track.name,
                )


def _texts(patient: Patient) -> Iterator[Finding]:
    recording = patient.recording
    numbers = recording.columns.get("task_index")
    silent, unknown = [], []
    by_number = {entry.number: entry for entry in recording.entries}
    for number, rows in patient.episodes():
        entry = by_number.get(number)
        given = [] if numbers is None else [recording.tasks.get(int(i)) for i in np.unique(numbers[rows])]
        if any(text is None for text in given):
            unknown.append(number)
        texts = [*(text or "" for text in given), *(entry.tasks if entry else ())]
        if not texts or any(not any(c.isalnum() for c in text) for text in texts):
            silent.append(number)
    if unknown:
        yield Finding("text", "task_index points to no line of meta/tasks.parquet", tuple(unknown))
    if silent:
        yield Finding(
            "text",
            f"{len(silent)} of {len(recording.episodes)} episodes have no instruction: a policy that reads "
            "would learn to "
            "ignore words; write one, or leave them out",
            tuple(silent),
        )


def _stats(patient: Patient) -> Iterator[Finding]:
    recording = patient.recording
    for key, column in recording.columns.items():
        given = recording.stats.get(key)
        if given is None or key in ("index", "episode_index", "task_index", "frame_index", "timestamp"):
            continue
        values = column.reshape(len(recording), -1).astype(np.float64)
        if not np.isfinite(values).all():
            continue
        true = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
        size = 1 + np.abs(values).max(0)
        slack = STATS_TOLERANCE * true["std"] + 1e-6 * size
        # LeRobot takes variances as a difference of squares, of which float32 leaves this much beside a large mean.
        rounding = {"std": 4 * np.finfo(np.float32).eps * size**2 / true["std"].clip(1e-9)}
        for name, found in true.items():
            said = np.asarray(given.get(name, found), np.float64).ravel()
            if said.shape != found.shape:
                yield Finding("stats", f"stats.json: {key}.{name} has {said.size} entries, the data {found.size}")
            elif (wrong := np.flatnonzero(~(np.abs(said - found) <= slack + rounding.get(name, 0.0)))).size:
                i = int(wrong[np.argmax(np.abs(said - found)[wrong] / slack[wrong])])
                yield Finding(
                    "stats",
                    f"stats.json: {key}.{name} of {recording.names(key)[i]} is {said[i]:.6g}, the data has "
                    f"{found[i]:.6g}; "
                    "policies would normalise with the wrong numbers: compute them again",
                )
                break
    missing = [key for key in (STATE, ACTION) if key in recording.columns and key not in recording.stats]
    if missing:
        yield Finding("stats", f"stats.json has nothing on {', '.join(missing)}: compute it again")


def _picture_stats(patient: Patient) -> Iterator[Finding]:
    for key, track in patient.tracks.items():
        given = patient.recording.stats.get(key, {})
        said = np.asarray(given.get("mean", []), np.float64).ravel()
        if said.size != 3 or not np.isfinite(track.spread).any():
            continue
        colours = track.grid.mean((1, 2)) / 255
        found, spread = np.nanmean(colours, axis=0), np.nanstd(colours, axis=0)
        frames = max(1.0, min(len(colours), float(np.ravel(given.get("count", [1]))[0])))
        slack = STATS_SIGMAS * spread / np.sqrt(min(frames, len(patient.recording.episodes))) + 0.02
        if (np.abs(said - found) <= slack).all():
            continue
        numbers = f"stats.json has mean colour {_colour(said)}, the pictures {_colour(found)}"
        if (np.abs(said[::-1] - found) <= slack).all() and abs(said[0] - said[2]) > 2 * slack.max():
            yield Finding("colour order", f"{numbers}: red and blue are exchanged (BGR)", camera=track.name)
        else:
            yield Finding("stats", f"{numbers}: compute the statistics again", camera=track.name)


def _colour(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{255 * v:.0f}" for v in values) + ")"


def _spec(patient: Patient) -> Iterator[Finding]:
    recording, spec = patient.recording, patient.recording.spec
    assert spec is not None
    features = recording.info["features"]
    if abs(spec.rate_hz - recording.fps) > 0.5:  # LeRobot's rates are whole numbers
        yield Finding(
            "spec", f"robot_spec.yaml: rate_hz is {spec.rate_hz:g}, the dataset has {recording.fps:g} frames/s"
        )
    for camera in spec.cameras:
        if camera.key not in features:
            yield Finding(
                "spec", f"robot_spec.yaml names a camera the dataset lacks: {camera.name}", camera=camera.name
            )
            continue
        track = patient.tracks[camera.key]
        for height, width in track.sizes - {(camera.height, camera.width)}:
            yield Finding(
                "spec",
                f"robot_spec.yaml: {camera.width}x{camera.height}, its pictures are {width}x{height}",
                camera=camera.name,
            )
        if camera.colour == "bgr":
            yield Finding("spec", "robot_spec.yaml: bgr, but LeRobot's videos decode to rgb", camera=camera.name)
    extra = [key.removeprefix(IMAGES) for key in recording.cameras if key not in {c.key for c in spec.cameras}]
    if extra:
        yield Finding("spec", f"the dataset has cameras that robot_spec.yaml does not name: {', '.join(extra)}")
    for key, size, fields in ((STATE, spec.state_size, spec.state), (ACTION, spec.action_size, spec.action.fields)):
        there = recording.vectors(key)
        if there.shape[1] != size:
            yield Finding("spec", f"robot_spec.yaml: {key} has {size} entries, the data {there.shape[1]}")
        else:
            yield from _ranges(patient, key, fields, there, spec)


def _ranges(
    patient: Patient, key: str, fields: tuple[Field, ...], values: np.ndarray, spec: RobotSpec
) -> Iterator[Finding]:
    """Whether the values can be what the fields are said to be."""
    for name, place in field_slices(fields).items():
        part, field = values[:, place], next(f for f in fields if f.name == name)
        if not np.isfinite(part).all():
            continue
        if name == "gripper" and field.unit in ("1", "%"):
            # A tenth beyond is calibration; more is another unit.
            beyond = np.maximum(part - field.whole, -part).max(1) / field.whole
            yield from _first(patient, beyond > 0.1, f"{key}.gripper should be 0 to {field.whole:g}, is {_range(part)}")
        if field.rotation in ("quaternion_xyzw", "rot6d", "matrix"):
            length = np.linalg.norm(part[:, :4] if field.size == 4 else part[:, :3], axis=1)
            says = (
                f"{key}.{name}: a {field.rotation} has length 1 (the first column, if several), here {_range(length)}"
            )
            yield from _first(patient, np.abs(length - 1) > 0.05, says)
        if field.rotation == "matrix":
            flipped = np.linalg.det(TO_MATRIX["matrix"](part)) < 0
            yield from _first(patient, flipped, f"{key}.{name}: the matrix mirrors (determinant -1)")


def _first(patient: Patient, wrong: np.ndarray, message: str) -> Iterator[Finding]:
    rows = np.flatnonzero(wrong)
    if rows.size:
        episode, frame = patient.recording.place(int(rows[0]))
        others = sorted({patient.recording.place(int(row))[0] for row in rows} - {episode})
        yield Finding("spec", f"{message}: it is not what robot_spec.yaml says", (episode, *others), frame)


def _range(values: np.ndarray) -> str:
    return f"{values.min():.3g} to {values.max():.3g}"


CHECKS = (
    Check("timestamps", "every frame at its frame number over the rate", _timestamps),
    Check("frame count", "rows, frame numbers and the episode table agree", _numbering),
    Check("video frames", "a picture for every row, and none left over", _videos, ("pictures",)),
    Check("text", "an instruction for every episode", _texts),
    Check("stats", "stats.json says what the data says", _stats, ("stats",)),
    Check("picture stats", "stats.json says how the pictures look", _picture_stats, ("stats", "pictures")),
    Check("spec", "the data has the shape, rate and ranges of its robot_spec.yaml", _spec, ("spec",)),
)
