"""`vla data import rosbag2`: recorded bags into a LeRobot v3 dataset, as the `ros` section of a robot spec says."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from vla import assets
from vla.data.rosbag2.bag import Bag, bags, storages
from vla.data.rosbag2.frames import Framer, Report, episodes, stamp_columns, steps
from vla.data.staging import Span, Staging, check_output
from vla.data.workers import progress_bar
from vla.errors import UserError
from vla.spec import RobotSpec
from vla.streams import Streams, extra, sources

COMMAND = "import"
RECORD = Path("meta/import.json")
END = 2**20
EMPTY = "has no moment at which every stream of the spec is there and fresh"


def import_rosbag2(path: Path, spec_name: str, out: Path, task: str | None = None) -> None:
    """Import a bag, or the bags of a folder, into `out`, whole or not at all. task: the instruction, for bags that do
    not say it.

    Prints how old what was seen at each tick, and what had to be left out. Raises UserError for what is no bag, for
    topics that the spec names and a bag lacks, and for an output that cannot be written.
    """
    spec_file = assets.find("robot", spec_name)
    spec = RobotSpec.load(spec_file)
    path, out = path.resolve(), out.resolve()
    assets.check_folder_writable(out)
    assets.check_folder_writable(out.parent)
    Framer(spec)  # UserError for a spec that does not say where its streams are
    wanted = {
        "source": str(path),
        "bag_sha256": _digest(path),
        "spec_sha256": hashlib.sha256(spec_file.read_bytes()).hexdigest(),
        "task": task,
    }
    if check_output(out, RECORD, wanted, COMMAND):
        print(f"{out} holds it (it was there)")
        return
    found = [Bag.open(one) for one in bags(path)]
    for bag in found:
        _check_topics(spec, bag, task)
    staging = Staging(out, wanted, COMMAND)
    with staging.opened():
        folder = staging.unfinished(Span(0, 0))
        count, frames, left_out = _record(found, spec, task or "", folder)
        for line in left_out:
            print(f"vla: {line}", file=sys.stderr)
        if not count:
            raise UserError(f"import: {path} {EMPTY}")
        (folder / RECORD).write_text(json.dumps(wanted, indent=2))
        staging.finish(folder)
    print(f"{count} episodes, {frames} frames in {out}")


def _digest(path: Path) -> str:
    """Of the names, sizes and last bytes of its files: MCAP has its times and checksums there."""
    digest = hashlib.sha256()
    for storage in (storage for bag in bags(path) for storage in storages(bag)):
        size = storage.stat().st_size
        digest.update(f"{storage.name} {size}\n".encode())
        with open(storage, "rb") as file:
            file.seek(max(0, size - END))
            digest.update(file.read())
    return digest.hexdigest()


def _record(found: list[Bag], spec: RobotSpec, task: str, folder: Path) -> tuple[int, int, list[str]]:
    """Episodes and frames written, and what to tell of the bags."""
    from vla.data.recorder import EpisodeRecorder  # seconds of importing

    report, recorder, lengths, told = Report(), None, list[int](), list[str]()
    with progress_bar("bags", len(found)) as advance:
        for bag in found:
            framer, before = Framer(spec, task, report), len(lengths)
            for words, frames in episodes(steps(framer, bag.messages(framer.topics))):
                if not words:
                    raise _untold(bag)
                recorder = recorder or EpisodeRecorder(folder, spec, labels=False, extra=stamp_columns(spec))
                lengths.append(recorder.write_frames(words, frames))
            if len(lengths) == before and len(found) > 1:
                told.append(f"{bag.path} {EMPTY}")
            told += bag.damage
            advance(1)
    if recorder:
        recorder.close()
    return len(lengths), sum(lengths), [*report.lines(), *told]


def _check_topics(spec: RobotSpec, bag: Bag, task: str | None) -> None:
    parts = [part for kind in ("camera", "state", "action") for part in sources(spec, kind)]
    needed = {topic: stream.type for topic, stream in Streams(parts, extra(spec, "clock")).topics.items()}
    missing = [topic for topic in needed if topic not in bag.topics]
    if missing:
        raise UserError(f"import: {bag.path} has no {', '.join(missing)}; it has {', '.join(sorted(bag.topics))}")
    for topic, kind in needed.items():
        if bag.topics[topic] != kind:
            raise UserError(f"import: {topic} is {bag.topics[topic]} in {bag.path}, the spec says {kind}")
    told: list[Any] = [extra(spec, name) for name in ("instruction", "outcome")]
    if task is None and not any(stream and stream.topic in bag.topics for stream in told):
        raise _untold(bag)


def _untold(bag: Bag) -> UserError:
    return UserError(f"import: {bag.path} does not say what is done in it; give --instruction TEXT")
