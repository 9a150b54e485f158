"""Recording while the robot is driven: how regularly it is commanded, and what of its cameras is lost, beside LeRobot.

Both drive and record the same simulated arm at 50 Hz, with two cameras of 640x480 at 30 Hz: ours as `vla teleop` does,
safety gate and all, the peer with LeRobot's own record loop and its defaults. Then a page in a
browser watches and drives.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla import assets
from vla.bench.bench_arm import BenchArm, Cameras
from vla.bench.regularity import regularity
from vla.bench.table import Row, report
from vla.data.live import LiveRecorder, LiveSettings
from vla.errors import UserError
from vla.spec import ActionSpec, Camera, Field, RobotSpec
from vla.teleop.bodies import PRIORITY
from vla.teleop.control import SessionSettings
from vla.teleop.devices import Reading
from vla.teleop.session import Session

HZ, HEIGHT, WIDTH = 50, 480, 640
PEER = "LeRobot's record loop"
PEER_SECONDS = 60.0
"""The peer runs no longer: the pictures that it has yet to write wait in memory, as many as there are."""
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Measured:
    """sent: when the robot got each command (s). seen: number of the camera frame in each step. dropped: steps that the
    recorder lost; waiting: pictures it had yet to write at the end.
    """

    sent: NDArray[np.float64]
    seen: NDArray[np.int64]
    dropped: int
    waiting: int

    def rows(self) -> dict[str, tuple[float, str]]:
        """Name -> value and unit. Raises UserError if there is nothing to measure."""
        if len(self.sent) < 3:
            raise UserError("bench teleop: fewer than three commands; give more --minutes")
        made = int(self.seen[-1] - self.seen[0]) + 1
        pace = {name: (value, unit) for (name, unit), value in regularity(self.sent, HZ).items() if name != "commands"}
        return {
            **pace,
            "camera frames lost": (100 * (made - len(np.unique(self.seen))) / made, "%"),
            "steps dropped": (100 * self.dropped / len(self.sent), "%"),
            "pictures waiting at the end": (self.waiting, "pictures"),
        }


def bench_teleop(seconds: float) -> dict[str, Any]:
    """So many seconds of ours, and up to PEER_SECONDS of the peer's and of the page; returns the benchmark document."""
    with tempfile.TemporaryDirectory(prefix="vla-bench-") as folder:
        ours = record_ours(Path(folder) / "ours", seconds)
        peer = record_peer(Path(folder) / "peer", min(seconds, PEER_SECONDS))
        page = _page(Path(folder) / "page", min(seconds, PEER_SECONDS))
    rows = [
        Row(name, value, unit, PEER, theirs)
        for (name, (value, unit)), (theirs, _) in zip(ours.rows().items(), peer.rows().values(), strict=True)
    ] + [Row(name, value, unit) for name, (value, unit) in page.items()]
    title = f"Driving at {HZ} Hz while two {WIDTH}x{HEIGHT} cameras are recorded, {seconds:g} s"
    return {**report(title, rows), "steps": len(ours.sent), "peer_steps": len(peer.sent)}


def _page(out: Path, seconds: float) -> dict[str, tuple[float, str]]:
    """As `measure_page`; empty, and said why, where that cannot be measured."""
    from vla.bench.cockpit import measure_page

    try:
        return measure_page(arm_spec(), out, seconds)
    except UserError as error:
        print(f"vla: {error}", file=sys.stderr)
        return {}


def arm_spec() -> RobotSpec:
    """The tabletop's arm, commanded by joint positions."""
    arm = RobotSpec.load(assets.find("robot", "tabletop"))
    fields = (Field("joint_position", 7, "rad"), Field("gripper", 1, "1"))
    cameras = (Camera("front", HEIGHT, WIDTH), Camera("wrist", HEIGHT, WIDTH, mount="wrist"))
    action = ActionSpec("joint_position", fields, arm.action.gripper)
    return replace(arm, name="bench", rate_hz=HZ, cameras=cameras, state=fields, action=action, ros=())


def record_ours(out: Path, seconds: float) -> Measured:
    """Through a live session, as `vla teleop` has it."""
    spec = arm_spec()
    with Cameras(spec) as cameras, LiveRecorder(out, spec, LiveSettings(preroll_s=0, reserve=0)) as recorder:
        arm = BenchArm(spec, cameras)
        session = Session(lambda: arm, _Hand(), recorder, settings=SessionSettings(priority=PRIORITY))
        session.start()
        try:
            session.ask("instruct", "sway")
            session.ask("start")
            _wait(lambda: recorder.status().recording)
            first = len(arm.sent)
            time.sleep(seconds)
            last = len(arm.sent)
            waiting = recorder.status().waiting * len(spec.cameras)
            session.ask("success")
            _wait(lambda: not recorder.status().recording)
            recorder.settle(PATIENCE_S + seconds)
        finally:
            session.close()
        (kept,) = recorder.status().takes
    return Measured(np.array(arm.sent[first:last]), np.array(arm.seen[first:last]), kept.take.dropped, waiting)


def record_peer(out: Path, seconds: float) -> Measured:
    """`record_loop` of LeRobot, with what `lerobot-record` hands it."""
    from vla.bench.lerobot_arm import record

    spec = arm_spec()
    with Cameras(spec) as cameras:
        arm = BenchArm(spec, cameras)
        waiting = record(arm, HZ, seconds, out)
    return Measured(np.array(arm.sent), np.array(arm.seen), 0, waiting)


class _Hand:
    """Takes hold, and then sways the arm for ever."""

    name = "bench"

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._held = False

    def read(self) -> Reading:
        now = time.monotonic()
        held, self._held = self._held, True
        return Reading(0.2 * np.sin(now - self._began + np.arange(6)), 1.0, held, now)

    def close(self) -> None:
        pass


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > until:
            raise TimeoutError(f"the session did not follow within {PATIENCE_S:g} s")
        time.sleep(0.002)
