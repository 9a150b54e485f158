"""Recording a robot under way: nothing here keeps the control loop waiting, and no crash costs more than one take.

The loop hands over each control step; a thread writes them to `OUT.live` (see `vla.data.spool`). A take is kept by one
rename. `vla.data.publish` makes the LeRobot dataset OUT of the takes later.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vla.data.publish import claim, live_folder, next_number, recorded_takes, tidy
from vla.data.spool import LiveFrame, SpoolWriter, Take
from vla.data.staging import held
from vla.errors import UserError
from vla.spec import RobotSpec

CHECK_DISK_S = 0.5
THUMBNAIL = 96
"""Pixels across."""


@dataclass(frozen=True)
class LiveSettings:
    """operator, device: recorded with every take. preroll_s: so much of what was before the start is in the take.
    queue: control steps that may wait for the disk; more are dropped, and counted. reserve: bytes of the disk that stay
    free; no recording below.
    """

    operator: str = ""
    device: str = ""
    preroll_s: float = 0.5
    queue: int = 200
    reserve: int = 1 << 30


@dataclass(frozen=True)
class KeptTake:
    """thumbnail: (H, 96, 3), the first camera's last picture, made small."""

    take: Take
    thumbnail: NDArray[np.uint8]


@dataclass(frozen=True)
class LiveStatus:
    """recording: a take is open. frames: of it, so far; waiting: for the disk; dropped: of this take. free: bytes on
    the disk. trouble: why recording stopped, "" if it did not. takes: those kept in this session, in order.
    """

    recording: bool = False
    frames: int = 0
    waiting: int = 0
    dropped: int = 0
    free: int = 0
    trouble: str = ""
    takes: tuple[KeptTake, ...] = ()


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) to (96 H / W, 96, 3)."""
    size = (THUMBNAIL, max(1, THUMBNAIL * image.shape[0] // image.shape[1]))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


class LiveRecorder:
    """One session's takes for the dataset `out`; used as a context manager, which discards a take still open.

    Raises UserError if another session records into `out`, or if it holds something else.
    """

    def __init__(self, out: Path, spec: RobotSpec, settings: LiveSettings | None = None) -> None:
        self._out, self._spec, self._settings = out.resolve(), spec, settings or LiveSettings()
        self._folder = live_folder(self._out)
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._status = LiveStatus()
        self._preroll: deque[LiveFrame] = deque(maxlen=round(self._settings.preroll_s * spec.rate_hz))
        self._open = False
        self._writer: SpoolWriter | None = None
        self._begun = Take(0, "", False, 0, 0, 0, "", "", "")
        self._picture: NDArray[np.uint8] = np.zeros((1, 1, 3), np.uint8)
        self._unwritten = 0
        self._full, self._checked = False, -CHECK_DISK_S
        self._thread = threading.Thread(target=self._work, name="vla-recorder", daemon=True)
        self._holding = ExitStack()

    def __enter__(self) -> LiveRecorder:
        recorded_takes(self._out)  # before anything is made
        self._holding.enter_context(held(self._folder, "teleop"))
        try:
            tidy(self._out, self._spec)
            claim(self._out, self._spec)
            self._number = next_number(self._out)
            self._check_disk()
        except BaseException:
            self._holding.close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(self._discard)
        self._queue.put(None)
        self._thread.join()
        self._holding.close()

    def status(self) -> LiveStatus:
        return self._status

    def offer(self, frame: LiveFrame) -> None:
        """A control step: for the open take, or else for the pre-roll of the next. Never waits."""
        if not self._open:
            self._preroll.append(frame)
            return
        with self._lock:
            late = self._status.waiting >= self._settings.queue
            if late:
                self._status = replace(self._status, dropped=self._status.dropped + 1)
            else:
                self._status = replace(self._status, waiting=self._status.waiting + 1)
        if not late:
            self._queue.put(lambda: self._add(frame))

    def forget_preroll(self) -> None:
        """What was before is not how the next take begins: the scene has been changed."""
        self._preroll.clear()

    def begin(self, task: str, policy: str = "") -> str:
        """Open a take; returns its `Take.started`.

        Raises UserError if one is open, if there are no words for it, or if the disk is full.
        """
        if self._open:
            raise UserError("a take is being recorded: end it first")
        if not task.strip():
            raise UserError("say what is to be done before you record it")
        self._full, self._checked = False, -CHECK_DISK_S
        self._tell(trouble="")
        if self._check_disk():
            raise UserError(self._status.trouble)
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        take = Take(0, task.strip(), False, 0, 0, 0, self._settings.operator, self._settings.device, started, policy)
        before = list(self._preroll)
        self._preroll.clear()
        self._open = True
        self._tell(recording=True, frames=0, dropped=0)
        self._queue.put(lambda: self._begin(take, before))
        return started

    def end(self, success: bool) -> None:
        """Keep the open take, with its label; does nothing if there is none."""
        if self._open:
            self._open = False
            self._tell(recording=False)
            dropped = self._status.dropped
            self._queue.put(lambda: self._keep(success, dropped))

    def discard(self) -> None:
        """Throw the open take away."""
        if self._open:
            self._open = False
            self._tell(recording=False)
            self._queue.put(self._discard)

    def undo(self, started: str | None = None) -> None:
        """Throw away the newest take of this session that was kept; if it is not the one begun then, none."""
        self._queue.put(lambda: self._undo(started))

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until everything handed over so far is on the disk. TimeoutError after so many seconds."""
        done = threading.Event()
        self._queue.put(done.set)
        if not done.wait(timeout):
            raise TimeoutError(f"the recorder did not settle within {timeout:g} s")

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                job()
            except OSError as error:
                self._fail(error.strerror or str(error))
            except Exception as error:  # else this thread would end, and nothing more be recorded, without a word
                traceback.print_exc()
                self._fail(f"{type(error).__name__}: {error}")

    def _begin(self, take: Take, before: list[LiveFrame]) -> None:
        self._discard()  # one that was begun while the one before could not be kept
        self._begun, self._unwritten = replace(take, number=self._number), 0
        self._writer = SpoolWriter(self._folder / f"open-{self._number:06d}", self._spec)
        for frame in before:
            self._write(frame)

    def _add(self, frame: LiveFrame) -> None:
        try:
            if self._writer is not None:
                self._write(frame)
        finally:
            with self._lock:
                self._status = replace(self._status, waiting=self._status.waiting - 1)

    def _write(self, frame: LiveFrame) -> None:
        if self._check_disk():
            self._unwritten += 1
            return
        assert self._writer is not None
        self._writer.add(frame)
        if self._spec.cameras:
            self._picture = frame.images[self._spec.cameras[0].name]
        self._tell(frames=self._writer.frames)

    def _keep(self, success: bool, dropped: int) -> None:
        writer = self._writer
        if writer is None:
            return
        if not writer.frames:
            self._discard()
            return
        take = replace(
            self._begun,
            success=success,
            frames=writer.frames,
            interventions=writer.interventions,
            dropped=dropped + self._unwritten,
        )
        writer.keep(take, self._folder / f"take-{take.number:06d}")
        self._writer = None
        self._number += 1
        self._tell(takes=(*self._status.takes, KeptTake(take, thumbnail(self._picture))))

    def _discard(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                writer.close()
            finally:
                shutil.rmtree(writer.folder, ignore_errors=True)

    def _undo(self, started: str | None) -> None:
        newest = self._status.takes[-1].take if self._status.takes else None
        if newest is not None and started in (None, newest.started):
            number = newest.number
            undone = self._folder / f"undone-{number:06d}"
            (self._folder / f"take-{number:06d}").rename(undone)
            shutil.rmtree(undone, ignore_errors=True)
            self._tell(takes=self._status.takes[:-1])

    def _check_disk(self) -> bool:
        """Whether there is too little room; then nothing more is written until the next take is begun."""
        now = time.monotonic()
        if not self._full and now - self._checked >= CHECK_DISK_S:
            self._checked = now
            free = shutil.disk_usage(self._folder).free
            self._full = free < self._settings.reserve
            self._tell(free=free)
        if self._full and not self._status.trouble:
            left, least = self._status.free / 1e9, self._settings.reserve / 1e9
            told = f"the disk is nearly full: {left:.2g} GB are left, {least:.2g} GB are kept free; recording stopped"
            self._tell(trouble=told)
        return self._full

    def _fail(self, what: str) -> None:
        trouble = f"recording stopped, and the open take is lost: {what}"
        self._open = False
        with suppress(OSError):  # what was buffered cannot be written either
            self._discard()
        self._tell(recording=False, trouble=trouble)

    def _tell(self, **changes: object) -> None:
        with self._lock:
            self._status = replace(self._status, **changes)  # type: ignore[arg-type]
