"""The command process, judged by what the robot received: smooth motion, whatever happens to it or its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from joint_robot import HOME, POLITE, JointRobot, joint_spec, long_chunk, read_log

from vla import assets
from vla.errors import UserError
from vla.processes import SPAWN, Maker, real_time
from vla.runtime.command_loop import CommandLoop, Settings
from vla.runtime.command_process import CommandProcess
from vla.runtime.safety_gate import SafetyGate
from vla.shared_slot import Slot, slot_memory
from vla.spec import RobotSpec

SPEC = joint_spec(RobotSpec.load(assets.find("robot", "tabletop")))
PATIENCE = 600.0
"""Seconds a process may take for what takes it one: the machine may be busy."""


def make(log: Path, settings: Settings = POLITE) -> CommandProcess:
    return CommandProcess(SPEC, Maker("joint_robot:JointRobot", {"log": str(log)}), settings)


def until(true, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def set_in_motion(stream: CommandProcess, moved) -> None:
    def try_again() -> bool:
        if stream.state().held:
            stream.send(long_chunk())
        return moved()

    until(try_again, "it did not move")


def assert_smooth_and_at_rest(path: np.ndarray) -> None:
    derivative = np.concatenate([[HOME] * 3, path])
    for name in ("velocity", "acceleration", "jerk"):
        derivative = np.diff(derivative, axis=0) * 200
        assert (np.abs(derivative) <= np.array(getattr(SPEC.limits, name)) * (1 + 1e-6)).all(), name
    assert (path[-1] == path[-2]).all()


def moving(log: Path) -> bool:
    path, _ = read_log(log)
    return len(path) > 10 and np.abs(path[-1] - path[-2]).max() > 1e-4


def test_a_robot_follows_chunks_starves_stops_and_goes_on_after_a_reset(tmp_path):
    log = tmp_path / "log"
    stream = make(log)
    stream.start(PATIENCE)
    try:
        assert stream.state().scheduling == "as the system schedules it"
        stream.send(HOME + np.linspace(0.005, 0.05, 10)[:, None] * np.ones(7))
        # Starved in the end it rests, on the way to where it was sent: late samples make it slower, not faster.
        starved = stream.wait(lambda s: s.starvations > 0 and s.at_rest, PATIENCE, "no rest after starvation")
        assert starved.held and starved.stopped is None and (starved.joints <= HOME + 0.06).all()
        assert (starved.joints >= HOME).all() and (starved.measured >= HOME).all()
        with pytest.raises(ValueError, match=r"row 1 of the chunk cannot be commanded: non_finite.joints"):
            stream.send(np.array([HOME, HOME * np.nan]))
        set_in_motion(stream, lambda: not stream.state().held)
        stream.stop("enough")
        stream.wait(lambda s: s.stopped == "enough" and s.at_rest, PATIENCE, "no stop")
        assert stream.state().counts["enough"] == 1
        stream.reset()
        stream.wait(lambda s: s.stopped is None, PATIENCE, "no reset")
        set_in_motion(stream, lambda: not stream.state().held)
    finally:
        stream.close(PATIENCE)
    path, closed = read_log(log)
    assert closed and not stream.alive and stream.state().phase == "ended"
    assert_smooth_and_at_rest(path)
    stream.close()


def killed(stream: CommandProcess) -> None:
    os.kill(stream.pid, signal.SIGKILL)
    until(lambda: not stream.alive, "it lives")


def stopped_and_killed(stream: CommandProcess, blind: Path) -> str:
    stream.stop("enough")
    stream.wait(lambda s: s.stopped is not None, PATIENCE, "no stop")
    killed(stream)
    return "enough"


def blind_and_killed(stream: CommandProcess, blind: Path) -> str:
    blind.touch()
    stream.wait(lambda s: s.stopped is not None, PATIENCE, "no stop")
    killed(stream)
    blind.unlink()
    return "measured"


def killed_and_stopped(stream: CommandProcess, blind: Path) -> str:
    killed(stream)
    stream.stop("nobody hears it")
    return "nobody hears it"


@pytest.mark.parametrize("how", [stopped_and_killed, blind_and_killed, killed_and_stopped])
def test_a_stop_lasts_when_the_process_is_killed_and_started_again_until_it_is_reset(tmp_path, how):
    stream = make(log := tmp_path / "log")
    stream.start(PATIENCE)
    try:
        reason = how(stream, tmp_path / "log.blind")
        for _ in range(2):
            stream.start(PATIENCE)
            assert stream.state().stopped == reason
            stream.send(long_chunk())
            ticks = stream.state().tick
            stream.wait(lambda s, ticks=ticks: s.tick > ticks + 50, PATIENCE, "no samples")
            killed(stream)
        path, _ = read_log(log)
        assert (path == path[0]).all(), "it never moved"
        stream.start(PATIENCE)
        stream.reset()
        set_in_motion(stream, lambda: not stream.state().held)
        assert stream.state().stopped is None
    finally:
        stream.close(PATIENCE)


@pytest.mark.parametrize(
    ("wishes", "follows"),
    [
        (["reset", "stop"], False),
        (["stop", "reset"], True),
        (["stop", "reset", "stop"], False),
        (["reset", "stop", "reset"], True),
    ],
)
def test_of_a_stop_and_a_reset_that_are_heard_together_the_later_is_obeyed_last(tmp_path, wishes, follows):
    robot, gate = JointRobot(SPEC, str(tmp_path / "log")), SafetyGate(SPEC)
    gate.reset(*robot.measure())
    gate.stop("before")
    chunks, heard, states = (slot_memory(SPAWN, 1 << 16) for _ in range(3))
    loop = CommandLoop(gate, robot, POLITE, Slot(chunks), Slot(heard), Slot(states), "")
    stream = make(tmp_path / "log")
    stream._wishes = Slot(heard)
    for wish in wishes:
        stream.reset() if wish == "reset" else stream.stop("enough")
    assert (loop.tick(0.0).stopped is None) == follows
    robot.close()


def test_when_its_parent_is_killed_the_robot_stops_smoothly_and_nothing_is_left(tmp_path):
    log = tmp_path / "log"
    path = os.pathsep.join(sys.path)
    parent = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("joint_robot.py")), str(log)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    until(lambda: moving(log), "it did not move")
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the process outlived its parent")
    received, closed = read_log(log)
    assert closed
    assert_smooth_and_at_rest(received)
    left = [name for name in os.listdir("/dev/shm") if str(parent.pid) in name or str(child.pid) in name]
    assert not left


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=["SIGTERM", "Ctrl-C", "hang-up"])
def test_a_signal_stops_the_robot_smoothly_and_ends_the_process(tmp_path, number):
    log = tmp_path / "log"
    stream = make(log)
    stream.start(PATIENCE)
    try:
        set_in_motion(stream, lambda: moving(log))
        os.kill(stream.pid, number)
        until(lambda: not stream.alive, "it did not end")
    finally:
        stream.close(PATIENCE)
    path, closed = read_log(log)
    assert closed
    assert_smooth_and_at_rest(path)


def test_a_robot_that_cannot_be_made_is_told_to_the_parent():
    stream = CommandProcess(SPEC, Maker("joint_robot:broken"), POLITE)
    with pytest.raises(UserError, match="the command process failed: OSError: no such arm"):
        stream.start(PATIENCE)
    stream.close(PATIENCE)
    assert not stream.alive


def test_real_time_scheduling_that_is_not_permitted_is_told_and_not_fatal(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    assert real_time(50, 0) == (
        "no SCHED_FIFO (Operation not permitted), not pinned to core 0 (Operation not permitted)"
    )


def test_real_time_scheduling_is_asked_for_by_default(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda *what: asked.append(what[1]))
    monkeypatch.setattr(os, "sched_setaffinity", lambda *what: asked.append(what[1]))
    assert real_time(Settings().priority, Settings().core) == f"SCHED_FIFO 50, core {max(os.sched_getaffinity(0))}"
    assert asked == [os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, {max(os.sched_getaffinity(0))}]


def test_it_needs_no_torch():
    check = "import sys, vla.runtime.command_process; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", check], env=environment).returncode == 0
