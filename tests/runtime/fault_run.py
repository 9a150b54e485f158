"""A run of the policy that sways, on the real-time simulated robot, to which faults are done; judged by what it did.

Times are the robot's own, in samples of 5 ms: nothing here depends on how fast the machine is.
"""

import time

import numpy as np
import psutil

from vla.processes import Maker
from vla.robots.realtime_sim import RealTimeSim
from vla.robots.sim_body import read_log
from vla.robots.sim_wires import DT, BodySettings, World
from vla.runtime.command_loop import Settings
from vla.runtime.command_state import unpack_chunk
from vla.runtime.fast_loop import FastSettings
from vla.runtime.supervisor import RunSettings, Supervisor
from vla.shared_slot import Slot

PATIENCE = 900.0
LOST = 10.0
AGES = FastSettings(s2_stop=20.0, image_stop=LOST)
"""Long enough for a busy machine to be in time, short enough to wait for."""
AT_REST = 20
"""Samples within which it must rest once there is nothing to follow: 0.1 s."""


class Run:
    """policy: instead of the swaying one in S1's and S2's processes, whose mood `set_mood` changes."""

    def __init__(self, folder, policy: Maker | None = None) -> None:
        self.mood, self.log = folder / "mood", folder / "log"
        self.set_mood("")
        world, body = World(seed=3), BodySettings(log=str(self.log))
        self.robot = RealTimeSim(world, body, state_lost_s=LOST)
        how = RunSettings(hung=None, ready=PATIENCE, fast=AGES, command=Settings(core=None))
        policy = policy or Maker("swaying_policy:SwayingPolicy", {"mood": str(self.mood)})
        self.supervisor = Supervisor(policy, self.robot, how)
        self.events: list[str] = []
        self.waits: str | None = None
        self.refused = self.away = ""
        self.late_chunks = 0

    def set_mood(self, mood: str) -> None:
        self.mood.write_text(mood)

    def look(self):
        watch = self.supervisor.watch()
        self.events += watch.events
        for report in watch.fast:
            self.waits, self.away = report.waits, report.away
            self.late_chunks += report.late
            self.refused = report.refused or self.refused
        self.command = watch.command
        return watch

    def until(self, true, what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, what
            self.look()
            time.sleep(0.02)

    def targets(self) -> np.ndarray:
        return read_log(self.log, self.robot.spec)[1][:, 2:9]

    def until_it_moves(self) -> None:
        """On: from wherever it is."""
        here = self.targets()[-1]
        self.until(lambda: np.abs(self.targets()[-1] - here).max() > 0.01, "the run does not go on")

    def until_it_rests(self) -> None:
        def rests() -> bool:
            path = self.targets()[-40:]
            return bool((path == path[-1]).all())

        self.until(rests, "it does not come to rest")

    def stays_at_rest(self) -> None:
        """For half a second of its time."""
        ticks = self.ticks()
        self.until(lambda: self.ticks() >= ticks + 100, "its time stands still")
        path = self.targets()[ticks:]
        assert (path == path[0]).all()

    def holds_when_what_was_sent_is_used_up(self) -> None:
        """Nobody may send it anything while this is called."""
        chunk = unpack_chunk(Slot(self.supervisor.commands.chunk_memory).held()[-1])
        end = chunk.start + len(chunk.actions) / self.robot.spec.rate_hz + DT

        def after() -> np.ndarray:
            receipts = read_log(self.log, self.robot.spec)[0]
            return receipts[receipts[:, 1] > end, 2:9]

        self.until(lambda: len(after()) > AT_REST + 40, "what was sent is never used up")
        path = after()[AT_REST:]
        assert (path == path[0]).all(), "at rest 0.1 s after what was sent is used up"

    def ticks(self) -> int:
        return len(self.targets())

    def processes(self) -> list[psutil.Process]:
        parts = (self.supervisor.slow, self.supervisor.fast, self.robot.body, self.robot.cameras)
        return [psutil.Process(pid) for pid in [*(part.pid for part in parts), self.supervisor.commands.pid]]

    def assert_within_limits(self) -> None:
        derivative = self.targets()
        for name in ("velocity", "acceleration", "jerk"):
            derivative = np.diff(derivative, axis=0) / DT
            limit = np.array(getattr(self.robot.spec.limits, name)) * (1 + 1e-6)
            assert (np.abs(derivative) <= limit).all(), f"{name} over its limit in some fault"


def assert_gone(processes: list[psutil.Process]) -> None:
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)
