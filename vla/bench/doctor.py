"""`vla bench doctor`: how well `vla data doctor` finds faults planted at random, and what it says of clean data.

Datasets of three origins: episodes that `vla collect` records, one that LeRobot's own writer made without a robot spec
(`synthetic_recording`), and an import from RLDS where its directory is given.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.actions import rotations
from vla.bench.defects import DEFECTS, Copy, Defect
from vla.data.collect import EpisodeSettings, collect_episodes
from vla.data.doctor.cameras import live
from vla.data.doctor.examine import Diagnosis, examine
from vla.data.doctor.patient import Patient
from vla.data.doctor.recording import Recording
from vla.data.lerobot_v3 import STATE
from vla.data.workers import progress_bar

SIZES = ("small", "middle", "large")
"""Thirds of (0, 1] from which severities are drawn."""
QUATERNIONS = "tabletop, quaternions"
"""The first origin once more, with its rotation as a quaternion."""
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


@dataclass(frozen=True)
class Trial:
    origin: str
    defect: str
    size: str
    severity: float
    found: bool
    other: tuple[str, ...]


def bench_doctor(episodes: int, trials: int, seed: int, rlds: Path | None, workers: int) -> dict[str, Any]:
    """Plant every defect `trials` times per size in data of every origin. Raises UserError as the import does."""
    with tempfile.TemporaryDirectory() as folder:
        origins = _origins(Path(folder), episodes, seed, rlds, workers)
        clean = {
            name: [f"{f.kind}, {f.where}" for f in examine(Recording.open(root)).findings]
            for name, root in origins.items()
        }
        results = list(plant_all(origins, trials, seed, Path(folder)))
    return tally(results, clean)


def table(document: dict[str, Any]) -> str:
    """The results in Markdown: found / planted, small, middle and large, by defect and origin."""
    cells = {tuple(row["key"]): f"{round(row['value'] * row['trials'])}/{row['trials']}" for row in document["rows"]}
    origins = [name for name in document["clean"] if name != QUATERNIONS]
    lines = [f"| fault | size is a share of | {' | '.join(origins)} |", "|---" * (2 + len(origins)) + "|"]
    for defect in DEFECTS:
        listed = []
        for origin in origins:
            # The order of quaternions is planted in data of the first origin, where it has some.
            places = (origin, QUATERNIONS) if origin == origins[0] else (origin,)
            found = [
                cells[defect.name, place, size]
                for place in places
                for size in SIZES
                if (defect.name, place, size) in cells
            ]
            listed.append(" ".join(found) or "-")
        lines.append(f"| {defect.name} | {defect.size.removeprefix('{:.0%} of ')} | {' | '.join(listed)} |")
    alarms = [f"{origin}: {finding}" for origin, found in document["clean"].items() for finding in found]
    lines.append(f"\nFindings in the {len(document['clean'])} clean datasets: {'; '.join(alarms) or 'none'}.")
    return "\n".join(lines) + "\n"


def _origins(folder: Path, episodes: int, seed: int, rlds: Path | None, workers: int) -> dict[str, Path]:
    settings = EpisodeSettings("tabletop", seed, "all", None)
    collect_episodes(settings, episodes, folder / "tabletop", workers)
    synthetic_recording(folder / "lerobot", episodes, seed)
    origins = {"tabletop": folder / "tabletop", "LeRobot": folder / "lerobot"}
    if rlds:
        from vla.data.rlds.importer import import_rlds

        import_rlds(rlds, rlds.parent.name, folder / "imported", workers=workers)
        origins["imported"] = _seeing(folder / "imported", folder / "seeing")
    quaternions = Copy(origins["tabletop"], folder / "quaternions")
    with_quaternions(quaternions)
    return {**origins, QUATERNIONS: quaternions.save()}


def _seeing(source: Path, target: Path) -> Path:
    """Without the cameras that are blank throughout: those are true findings already."""
    copy, tracks = Copy(source, target), Patient(Recording.open(source)).tracks
    for key in [key for key, track in tracks.items() if not live(track)]:
        copy.leave_out(key)
    return copy.save()


def with_quaternions(copy: Copy) -> None:
    """Write the rotation in the state as a quaternion."""
    assert copy.spec is not None and copy.source.spec is not None
    field = next(f for f in copy.source.spec.state if f.rotation)
    part, state = copy.source.spec.state_slices[field.name], copy.column(STATE)
    turned = rotations.convert(state[:, part], str(field.rotation), "quaternion_xyzw")
    copy.put(STATE, np.concatenate([state[:, : part.start], turned, state[:, part.stop :]], axis=1))
    entry = next(one for one in copy.spec["state"] if one["name"] == field.name)
    entry |= {"rotation": "quaternion_xyzw", "size": 4, "unit": "1"}
    feature = copy.info["features"][STATE]
    feature["shape"] = [state.shape[1] - field.size + 4]
    names = feature["names"]
    feature["names"] = [*names[: part.start], *(f"{field.name}.{i}" for i in range(4)), *names[part.stop :]]


def plant_all(
    origins: dict[str, Path], trials: int, seed: int, folder: Path, defects: Sequence[Defect] = DEFECTS
) -> Iterable[Trial]:
    """Every defect, `trials` times per size and origin, in copies under `folder`. Unchanged videos are decoded once."""
    seen = {name: Patient(Recording.open(root)).tracks for name, root in origins.items()}
    rng = np.random.default_rng(seed)
    todo = [(o, d, s) for o in origins for d in defects for s in range(len(SIZES)) for _ in range(trials)]
    with progress_bar("planted", len(todo)) as advance:
        for origin, defect, size in todo:
            severity = float(rng.uniform(max(0.02, size / len(SIZES)), (size + 1) / len(SIZES)))
            # Of the data with quaternions only their order is new.
            if (defect.name == "quaternion order") == (origin == QUATERNIONS):
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    copy = Copy(origins[origin], Path(place) / "copy")
                    planted = defect.plant(copy, severity, rng)
                    if planted is not None:
                        copy.save()
                        known = {key: track for key, track in seen[origin].items() if key not in copy.changed}
                        diagnosis = examine(Recording.open(copy.root), known=known)
                        yield _judge(origin, defect, SIZES[size], severity, planted, diagnosis)
            advance(1)


def _judge(origin: str, defect: Defect, size: str, severity: float, planted: set[int], diagnosis: Diagnosis) -> Trial:
    """Found: a finding of that kind names a damaged episode, or the whole dataset."""
    hits = [f for f in diagnosis.findings if f.kind in defect.kinds]
    found = any(not planted or not f.episodes or planted & set(f.episodes) for f in hits)
    other = tuple(f"{f.kind}, {f.where}" for f in diagnosis.findings if f.kind not in defect.kinds)
    return Trial(origin, defect.name, size, severity, found, other)


def tally(results: list[Trial], clean: dict[str, list[str]]) -> dict[str, Any]:
    """The benchmark document. clean: what was said of each origin's clean data."""
    rows = []
    for key in dict.fromkeys((r.defect, r.origin, r.size) for r in results):
        same = [r for r in results if (r.defect, r.origin, r.size) == key]
        rows.append(
            {
                "name": ", ".join(key),
                "key": list(key),
                "value": float(np.mean([r.found for r in same])),
                "unit": "detection rate",
                "trials": len(same),
                "severities": [round(r.severity, 3) for r in same],
                "other_findings": sorted({line for r in same for line in r.other}),
            }
        )
    return {"rows": rows, "clean": clean}


def synthetic_recording(root: Path, episodes: int, seed: int, length: tuple[int, int] = (40, 80)) -> Path:
    """A teleoperated arm as `lerobot-record` leaves it: joints by name, no robot spec, pictures as files.

    The follower goes after the leader with a first-order lag of 60 ms; encoders and pixels are noisy.
    """
    from lerobot.datasets import LeRobotDataset

    from vla.data.recorder import quieten

    quieten()
    names, fps, size = [f"{joint}.pos" for joint in JOINTS], 30, 64
    vector = {"dtype": "float32", "shape": (len(names),), "names": names}
    picture = {"dtype": "image", "shape": (size, size, 3), "names": ["height", "width", "channels"]}
    features = {"observation.images.front": picture, "observation.images.wrist": picture}
    dataset = LeRobotDataset.create(
        "vla/synthetic", fps, {**features, STATE: vector, "action": vector}, root=root, use_videos=False
    )
    rng = np.random.default_rng(seed)
    draw = _scene(rng, size)
    for _ in range(episodes):
        leader = _wander(rng, int(rng.integers(*length)), len(names))
        follower = leader[0].copy()
        for command in leader:
            seen = (follower + rng.normal(0, 0.05, len(names))).astype(np.float32)
            frame = {
                "observation.images.front": draw(follower, False),
                "observation.images.wrist": draw(follower, True),
            }
            dataset.add_frame(
                {**frame, STATE: seen, "action": command.astype(np.float32), "task": "put the block away"}
            )
            follower = follower + (command - follower) * (1 - np.exp(-1 / (0.06 * fps)))
        dataset.save_episode()
    dataset.finalize()
    return root


def _wander(rng: np.random.Generator, steps: int, joints: int) -> np.ndarray:
    """(T, J) smooth movement in degrees; the gripper (0 to 100) closes and opens again."""
    time = np.arange(steps)[:, None] / 30
    path = sum(
        rng.uniform(10, 25, joints)
        / k
        * np.sin(2 * np.pi * rng.uniform(0.2, 0.5, joints) * k * time + rng.uniform(0, 6, joints))
        for k in (1, 2, 3)
    )
    close, open_again = sorted(rng.integers(5, steps - 5, 2))
    path[:, -1] = 80.0
    path[close:open_again, -1] = 20.0
    return np.asarray(path)


def _scene(rng: np.random.Generator, size: int) -> Callable[[np.ndarray, bool], np.ndarray]:
    """A textured table with the arm as two bars; the wrist camera moves with it."""
    import cv2

    table = cv2.GaussianBlur(rng.uniform(0, 1, (3 * size, 3 * size, 3)).astype(np.float32), (0, 0), 3)
    table = (table - table.min()) / (table.max() - table.min())
    table = (table * np.array([90, 70, 40]) + np.array([110, 90, 60])).astype(np.float32)

    def draw(joints: np.ndarray, wrist: bool) -> np.ndarray:
        x, y = (size + joints[:2] / 2) if wrist else (size, size)
        image = cv2.getRectSubPix(table, (size, size), (float(x) + size / 2, float(y) + size / 2))
        if not wrist:
            elbow = np.array([size / 2 + joints[0] / 2, size / 2 + joints[1] / 3])
            hand = elbow + 20 * np.array([np.sin(joints[2] / 30), np.cos(joints[3] / 30)])
            for a, b in (((size / 2, 0), elbow), (elbow, hand)):
                start, stop = (tuple(int(16 * v) for v in point) for point in (a, b))
                cv2.line(image, start, stop, (60, 60, 70), 4, cv2.LINE_AA, 4)
        return (image + rng.normal(0, 2, image.shape)).clip(0, 255).astype(np.uint8)

    return draw
