"""Takes for the tests of live recording, and processes that record them until they are killed, or out of room."""

import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla import assets
from vla.data.live import LiveRecorder, LiveSettings
from vla.data.publish import publish
from vla.data.spool import LiveFrame
from vla.errors import UserError
from vla.spec import Camera, RobotSpec

TINY = replace(
    RobotSpec.load(assets.find("robot", "tabletop")),
    cameras=(Camera("front", 32, 32), Camera("wrist", 32, 32, mount="wrist")),
)
NOTHING_RESERVED = LiveSettings("operator", "device", preroll_s=0, queue=100_000, reserve=0)


def frame(index: int, mark: float = 0.0, spec: RobotSpec = TINY) -> LiveFrame:
    """A control step at 20 Hz whose state says `mark` and whose pictures say `index`."""
    at = 100 + index / 20
    return LiveFrame(
        images={c.name: np.full((c.height, c.width, 3), (5 * index) % 256, np.uint8) for c in spec.cameras},
        state=np.full(spec.state_size, mark, np.float32),
        commanded=np.full(spec.action_size, 2, np.float32),
        applied=np.full(spec.action_size, 1, np.float32),
        captured={"front": at, "wrist": at + 0.01, "state": at + 0.02},
        decided=at + 0.03,
        driver="policy" if index % 2 else "person",
        intervention=index % 2 == 0,
    )


def record(recorder: LiveRecorder, task: str, frames: int, success: bool, mark: float = 0.0) -> None:
    recorder.begin(task, "tabletop")
    for index in range(frames):
        recorder.offer(frame(index, mark))
    recorder.end(success)


def victim(out: str, said: str) -> None:
    """Records takes and publishes them, over and over, and notes each take that is kept."""
    with open(said, "a") as file:
        while True:
            with LiveRecorder(Path(out), TINY, NOTHING_RESERVED) as recorder:
                for _ in range(3):
                    number = recorder._number
                    record(recorder, f"take {number}", 5 + number % 7, success=True, mark=number)
                    recorder.settle()
                    file.write(f"{number}\n")
                    file.flush()
            publish(Path(out), TINY)


def fill(out: Path, said: str) -> None:
    """A take that fits, one that does not, of which is said why, and another that fits."""
    with LiveRecorder(out, TINY, NOTHING_RESERVED) as recorder:
        record(recorder, "fits", 20, success=True)
        recorder.begin("does not")
        for index in range(1000):
            recorder.offer(frame(index))
        recorder.settle()
        assert said in recorder.status().trouble and not recorder.status().recording
        with pytest.raises(UserError, match="before you record"):
            recorder.begin("")
        record(recorder, "fits again", 20, success=True)
        recorder.settle()
        assert [kept.take.task for kept in recorder.status().takes] == ["fits", "fits again"]


def fill_short_files(out: str) -> None:
    """As on a full disk, without the right to make one: files of this process may not grow beyond so much."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, most))
    fill(Path(out), "File too large")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
    with pytest.raises(UserError, match="File too large; 2 takes are safe"):
        publish(Path(out), TINY)
