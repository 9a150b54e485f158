"""Frames into the recorder's dataset, in a thread of their own: some take longer to write than a control period."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vla import assets
from vla.data.rosbag2.frames import Step, episodes, stamp_columns
from vla.errors import UserError
from vla.spec import RobotSpec
from vla.streams import extra


class EpisodeWriter:
    """count, frames: of the episodes that are whole. failed: why nothing more is written, "" if it is. say: told what
    is left out.
    """

    def __init__(self, out: Path, spec: RobotSpec, say: Callable[[str], Any]) -> None:
        self._out, self._spec, self._say = out, spec, say
        self.count = self.frames = 0
        self.failed = ""
        self._steps: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recorder")
        self._thread.start()

    def offer(self, steps: Iterable[Step]) -> None:
        for step in () if self.failed else steps:
            self._steps.put(step)

    def close(self) -> None:
        """Write what is left."""
        self._steps.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._write_all()
        except Exception as error:  # whatever the disk or LeRobot raise: after that the dataset takes no more
            self.failed = f"{type(error).__name__}: {error}"
            self._say(f"an episode is lost, and nothing more is recorded: {self.failed}")

    def _write_all(self) -> None:
        recorder = None
        with ExitStack() as closing:
            for task, frames in episodes(iter(self._steps.get, None)):
                if not task:
                    self._say("an episode without words is left out: set the parameter task")
                    continue
                if recorder is None:
                    from vla.data.recorder import EpisodeRecorder  # seconds of importing

                    columns = stamp_columns(self._spec)
                    recorder = EpisodeRecorder(self._out, self._spec, labels=False, extra=columns)
                    closing.callback(recorder.close)
                self.frames += recorder.write_frames(task, frames)
                self.count += 1


def check_out(out: str, spec: RobotSpec) -> None:
    """UserError unless a dataset of this robot, with the columns of recordings, is or can be at `out`."""
    if not out:
        raise UserError("recorder: set the parameter out: the folder of the dataset")
    folder = Path(out).expanduser()
    assets.check_folder_writable(folder.parent, "recorder")
    if not folder.exists():
        return
    mine = folder / "meta" / "robot_spec.yaml"
    if not mine.exists():
        raise UserError(f"recorder: {folder} is there and is no dataset of ours; choose another out")
    if differing := spec.diff(RobotSpec.load(mine), "this dataset"):
        raise UserError(f"recorder: {folder} is of another robot: {'; '.join(differing)}")
    if other := sorted(_columns(folder) ^ _recorded_columns(spec)):
        raise UserError(f"recorder: {folder} is no recording of this spec: its columns differ in {', '.join(other)}")


def check_task(task: str, spec: RobotSpec) -> None:
    """UserError if nothing will say what is done: then no episode could be written."""
    if not (task or extra(spec, "instruction") or extra(spec, "outcome")):
        raise UserError("recorder: no topic of the spec says what is done: set the parameter task")


def _columns(folder: Path) -> set[str]:
    return set(json.loads((folder / "meta" / "info.json").read_text(encoding="utf-8"))["features"])


def _recorded_columns(spec: RobotSpec) -> set[str]:
    from vla.data.recorder import OF_LEROBOT, features

    return {*OF_LEROBOT, *features(spec, labels=False), *stamp_columns(spec)}
