"""What goes wrong in a run on two clocks, judged by what the robot did: it keeps its limits, holds, and goes on after.

One run meets one fault after the other. Times are the robot's own, and nothing here depends on how fast the machine is.
"""

import os
import signal
import time

import numpy as np
import psutil
import pytest

from vla.errors import UserError
from vla.processes import Maker
from vla.robots.realtime_sim import RealTimeSim
from vla.robots.sim_body import DT, read_log
from vla.robots.sim_wires import BodySettings, World
from vla.runtime.command_loop import Settings
from vla.runtime.fast_loop import FastSettings
from vla.runtime.supervisor import RunSettings, Supervisor

PATIENCE = 900.0
AGES = FastSettings(s2_stop=20.0, image_stop=10.0)
"""Long enough for a busy machine to be in time, short enough to wait for."""


class Run:
    def __init__(self, folder) -> None:
        self.mood, self.log = folder / "mood", folder / "log"
        self.set_mood("")
        world, body = World(seed=3), BodySettings(log=str(self.log))
        self.robot = RealTimeSim(world, body, state_lost_s=PATIENCE)
        how = RunSettings(hung=None, ready=PATIENCE, fast=AGES, command=Settings(core=None))
        self.supervisor = Supervisor(Maker("swaying_policy:SwayingPolicy", {"mood": str(self.mood)}), self.robot, how)
        self.events: list[str] = []
        self.waits: str | None = None
        self.refused = ""

    def set_mood(self, mood: str) -> None:
        self.mood.write_text(mood)

    def look(self) -> None:
        watch = self.supervisor.watch()
        self.events += watch.events
        for report in watch.fast:
            self.waits, self.refused = report.waits, report.refused or self.refused
        self.command = watch.command

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

    def ticks(self) -> int:
        return len(self.targets())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("faults"))
    with run.supervisor:
        run.supervisor.instruct("sway")
        run.until_it_moves()
        yield run
        processes = [psutil.Process(pid) for pid in pids(run)]
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)
    derivative = run.targets()
    for name in ("velocity", "acceleration", "jerk"):
        derivative = np.diff(derivative, axis=0) / DT
        limit = np.array(getattr(run.robot.spec.limits, name)) * (1 + 1e-6)
        assert (np.abs(derivative) <= limit).all(), f"{name} over its limit in some fault"


def pids(run) -> list[int]:
    parts = (run.supervisor.slow, run.supervisor.fast, run.robot.body, run.robot.cameras)
    return [part.pid for part in parts] + [run.supervisor.commands.pid]


def test_s2_killed_is_started_again_while_the_robot_goes_on(run):
    os.kill(run.supervisor.slow.pid, signal.SIGKILL)
    run.until(lambda: "s2 died: started again" in run.events, "nobody noticed")
    run.until_it_moves()
    assert run.waits is None, "on the thought there was"


def test_s2_hung_holds_the_robot_when_its_thought_is_too_old_until_it_is_back(run):
    os.kill(run.supervisor.slow.pid, signal.SIGSTOP)
    try:
        run.until(lambda: run.waits == "old thought", "it acts on any thought")
        run.until_it_rests()
        # What is asked meanwhile waits for S2 too.
        run.supervisor.instruct("sway the other way")
        run.until(lambda: run.waits == "no thought", "it acts on a thought about something else")
    finally:
        os.kill(run.supervisor.slow.pid, signal.SIGCONT)
    run.until_it_moves()


def test_s1_killed_ends_with_its_chunk_and_begins_again(run):
    os.kill(run.supervisor.fast.pid, signal.SIGKILL)
    run.until(lambda: "s1 died: started again" in run.events, "nobody noticed")
    run.until_it_moves()


def test_without_a_command_process_the_robot_brakes_by_itself(run):
    os.kill(run.supervisor.commands.pid, signal.SIGKILL)
    ticks = run.ticks()
    while run.ticks() < ticks + 60:
        time.sleep(0.02)
    path = run.targets()[ticks:]
    assert (path[20:60] == path[20]).all(), "at rest 0.1 s of its time after the last command"
    run.until(lambda: "the command process died: started again" in run.events, "nobody noticed")
    run.until_it_moves()


def test_a_chunk_with_nan_is_not_followed(run):
    run.set_mood("nan")
    run.until(lambda: "non_finite.ee_translation" in run.refused, "it was not noticed")
    run.until_it_rests()
    assert run.command.stopped is None, "it never came to the gate"
    run.set_mood("")
    run.until_it_moves()


def test_a_jump_is_slowed_down_by_the_gate(run):
    before = sum(run.command.counts.values())
    run.set_mood("jump")
    run.until(lambda: sum(run.command.counts.values()) > before, "no rule was enforced")
    run.set_mood("")
    run.until_it_moves()


def test_images_that_stop_coming_hold_the_robot_until_they_are_back(run):
    os.kill(run.robot.cameras.pid, signal.SIGSTOP)
    try:
        run.until(lambda: run.waits == "old images", "it acts on any image")
        run.until_it_rests()
    finally:
        os.kill(run.robot.cameras.pid, signal.SIGCONT)
    run.until_it_moves()


def test_a_policy_that_cannot_be_loaded_is_told(tmp_path):
    robot = RealTimeSim(World())
    supervisor = Supervisor(Maker("swaying_policy:Nobody"), robot, RunSettings(ready=PATIENCE))
    with pytest.raises(UserError, match=r"s[12]: 'swaying_policy:Nobody' cannot be made"):
        supervisor.start()
    supervisor.close()
    assert not supervisor.slow.alive and not supervisor.fast.alive and not robot.body.alive
