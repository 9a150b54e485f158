"""From takes to a LeRobot dataset: the dataset that is there is the old one or the new one, never half of either.

Beside the dataset OUT lies OUT.live, with the takes that are not in it yet. The new dataset is made of links to the
old one's files and of new files; then it takes the old one's place.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vla.data.episode import Frame
from vla.data.spool import LiveFrame, read_frames, read_take, streams, sync_folder
from vla.data.staging import held
from vla.errors import UserError
from vla.spec import RobotSpec, dimension_names

RECORD = Path("meta/takes.json")
SPEC = "robot_spec.yaml"
_TAKE, _OLD, _NEW = "take-*", "previous", "building"


def live_folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.live")


def recorded_takes(out: Path) -> list[dict[str, Any]]:
    """What is known of the takes in the dataset, in order of its episodes; empty if there is no dataset.

    Raises UserError if there is something else at `out`.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return []
    try:
        return list(json.loads((out / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        raise UserError(f"teleop: {out} was not recorded by teleop; choose another --out") from None


def next_number(out: Path) -> int:
    """The number of the next take: one that neither the dataset nor a take beside it has."""
    waiting = [int(path.name.split("-")[1]) for path in live_folder(out).glob(_TAKE)]
    return max([take["number"] for take in recorded_takes(out)] + waiting, default=-1) + 1


def tidy(out: Path, spec: RobotSpec | None = None) -> None:
    """Put right what an interruption left; the caller holds OUT.live. Raises UserError if `out` is of another robot."""
    folder = live_folder(out)
    old = folder / _OLD
    if old.exists() and not out.exists():
        old.rename(out)
    for path in (old, folder / _NEW, *folder.glob("open-*"), *folder.glob("undone-*")):
        shutil.rmtree(path, ignore_errors=True)
    there = {take["number"] for take in recorded_takes(out)}
    for path in folder.glob(_TAKE):
        if read_take(path).number in there:
            shutil.rmtree(path)
    for file, what in ((out / "meta" / SPEC, "this dataset"), (folder / SPEC, "the takes beside it")):
        differing = spec.diff(RobotSpec.load(file), what) if spec and file.exists() else []
        if differing:
            raise UserError(
                f"teleop: {out} was recorded with another robot ({'; '.join(differing)}); choose another --out"
            )


def claim(out: Path, spec: RobotSpec) -> None:
    """The takes that will be beside `out` are of this robot; the caller holds OUT.live and has tidied it."""
    partial = live_folder(out) / f"{SPEC}.partial"
    spec.save(partial)
    partial.replace(partial.with_suffix(""))


def publish(out: Path, spec: RobotSpec, advance: Callable[[int], None] = lambda frames: None) -> int:
    """Add every take beside `out` to the dataset there; returns how many. `advance` hears of frames done.

    Raises UserError, with the takes as safe as before, if the disk or a file is full or another session is under way.
    """
    out = out.resolve()
    folder = live_folder(out)
    if not folder.exists():
        return 0
    with held(folder, "teleop"):
        tidy(out, spec)
        takes = sorted(folder.glob(_TAKE))
        if takes:
            try:
                _build(out, folder / _NEW, takes, spec, advance)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                shutil.rmtree(folder / _NEW, ignore_errors=True)
                full = os.strerror(error.errno)
                raise UserError(
                    f"teleop: {full}; {len(takes)} takes are safe in {folder}: make room and run this again"
                ) from None
            _exchange(out, folder)
    shutil.rmtree(folder)
    return len(takes)


def _build(out: Path, new: Path, takes: list[Path], spec: RobotSpec, advance: Callable[[int], None]) -> None:
    from vla.data.recorder import EpisodeRecorder

    record = recorded_takes(out)
    if record:
        _link(out, new)
    recorder = EpisodeRecorder(new, spec, "vla/teleop", labels=False, extra=columns(spec))
    for folder in takes:
        take = read_take(folder)
        recorder.write_frames(take.task, _frames(folder, spec, advance))
        record.append(asdict(take))
    recorder.close()
    (new / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    os.sync()


def _link(old: Path, new: Path) -> None:
    """The same files under another folder. What LeRobot writes again when it appends is copied; the rest it leaves."""
    rewritten = {path for path in (old / "meta").iterdir() if path.is_file()}
    shutil.copytree(
        old,
        new,
        ignore=lambda folder, names: [name for name in names if Path(folder) == old and name == "cache"],
        copy_function=lambda a, b: shutil.copy2(a, b) if Path(a) in rewritten else _link_or_copy(a, b),
    )


def _link_or_copy(old: str, new: str) -> None:
    try:
        os.link(old, new)
    except OSError:  # a disk without hard links, as of a camera or a stick
        shutil.copy2(old, new)


def _exchange(out: Path, folder: Path) -> None:
    """Between the two renames there is no dataset; `tidy` puts the old one back if that is all there ever was."""
    if out.exists():
        out.rename(folder / _OLD)
    (folder / _NEW).rename(out)
    sync_folder(out.parent)
    shutil.rmtree(folder / _OLD, ignore_errors=True)


def columns(spec: RobotSpec) -> dict[str, dict[str, Any]]:
    """Beside observations and action, in LeRobot's terms. Their names begin neither with `observation` nor with
    `action`: LeRobot would take them for a policy's inputs and outputs.
    """
    commanded = {"dtype": "float32", "shape": (spec.action_size,), "names": dimension_names(spec.action.fields)}
    number, text, flag = ({"dtype": kind, "shape": (1,), "names": None} for kind in ("float64", "string", "bool"))
    return {
        "commanded": commanded,
        "time.decided": number,
        **{f"time.{name}": number for name in streams(spec)},
        **{f"age.{name}": number for name in streams(spec)},
        "driver": text,
        "intervention": flag,
        "operator": text,
        "device": text,
        "next.success": flag,
    }


def _frames(folder: Path, spec: RobotSpec, advance: Callable[[int], None]) -> Any:
    take = read_take(folder)
    start: float | None = None
    for index, live in enumerate(read_frames(folder, spec)):
        start = live.decided if start is None else start
        last = index == take.frames - 1
        yield Frame(live.images, live.state, live.applied, extra=_extra(live, start, take.success and last, take))
        advance(1)


def _extra(live: LiveFrame, start: float, done: bool, take: Any) -> dict[str, Any]:
    """Times are in seconds from the first decision of the take; ages, of what was seen when it was decided."""
    return {
        "commanded": live.commanded,
        "time.decided": np.array([live.decided - start]),
        **{f"time.{name}": np.array([at - start]) for name, at in live.captured.items()},
        **{f"age.{name}": np.array([live.decided - at]) for name, at in live.captured.items()},
        "driver": live.driver,
        "intervention": np.array([live.intervention]),
        "operator": take.operator,
        "device": take.device,
        "next.success": np.array([done]),
    }
