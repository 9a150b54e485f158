"""A session with a robot in another process, over DDS: it drives as one in this process, and what stops is said."""

import json
import os
import signal
import time

import numpy as np
import pytest
from session_rig import PATIENCE_S, moved, rests, session_with, take_hold, wait_for
from sim_process import sim_process
from terminal_rig import terminal

from vla import assets
from vla.cli import main
from vla.data.spool import read_frames
from vla.robots.dds import DdsRobot
from vla.spec import RobotSpec

SPEC = RobotSpec.load(assets.find("robot", "tabletop"))


@pytest.fixture
def domain(domains) -> int:
    from vla.robots.dds_bus import use_loopback

    use_loopback()
    return next(domains)


def test_a_session_drives_records_and_loses_a_robot_over_dds(tmp_path, domain):
    def make():
        robot = DdsRobot(SPEC, domain, patience=300, blind=20)
        robot.connect()
        return robot

    lockstep = sim_process(domain, "--lockstep")  # no command is too late, however busy the machine
    with lockstep as sim, session_with(make, SPEC, tmp_path, paced=True) as (live, hand, recorder):
        take_hold(live, hand)
        live.ask("start")
        moved(live, live.moment().tool)
        wait_for(live, lambda _: recorder.status().frames > 10, "frames are recorded")
        live.ask("success")
        wait_for(live, lambda now: now.seed == 1, "the next scene comes")

        hand.clutch = False
        rests(live)
        live.ask("start")
        wait_for(live, lambda _: recorder.status().recording and recorder.status().frames > 3, "it records again")
        os.kill(sim.process.pid, signal.SIGSTOP)
        wait_for(live, lambda now: any("kept as a failure" in note.text for note in now.notes), "the take ends")
        assert any("stands still" in note.text for note in live.moment().notes) and not recorder.status().recording
        os.kill(sim.process.pid, signal.SIGCONT)
        wait_for(live, lambda now: any("senses again" in note.text for note in now.notes), "it comes back")
        take_hold(live, hand)
        moved(live, live.moment().tool)
        recorder.settle()
        first, second = recorder.status().takes
        assert first.take.success and not second.take.success
        frames = list(read_frames(tmp_path / "data.live" / "take-000000", SPEC))
    assert {frame.driver for frame in frames} == {"person"}
    assert np.abs(frames[-1].state[7:10] - frames[0].state[7:10]).max() > 0.005, "the arm in the other process moved"
    assert all(frame.captured["front"] <= frame.decided for frame in frames)


def test_the_command_drives_a_robot_over_dds_from_a_terminal(tmp_path, domain):
    out = tmp_path / "data"
    device = ("--device", "keyboard", "--heartbeat", "20")
    robot = ("--robot", "dds", "--spec", "tabletop", "--loopback", "--domain", str(domain))
    with sim_process(domain, "--lockstep") as sim:
        deadline = time.monotonic() + PATIENCE_S
        while not any("on DDS domain" in line for line in sim.lines):
            assert time.monotonic() < deadline and sim.process.poll() is None, sim.lines
            time.sleep(0.1)
        drive("teleop", *device, *robot, "--out", str(out))
    (take,) = json.loads((out / "meta" / "takes.json").read_text())
    assert not take["success"] and take["device"] == "keyboard"


def drive(*command):
    with terminal(*command) as tty:
        tty.await_text("The arm holds")
        tty.press(b"\r", "recording: ")
        tty.press(b" ", "You (drive|hold)")
        tty.hold(b"a", "You drive.*● [1-9]")
        tty.press(b"n", "kept as a failure")
        tty.await_text("1 take ")
        assert tty.end() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--robot", "dds"], "--robot dds needs --spec"),
        (["--robot", "dds", "--spec", "nowhere.yaml"], "unknown robot 'nowhere.yaml'"),
        (["--robot", "dds", "--spec", "aloha"], "two arms cannot be guarded yet"),
        (["--robot", "lerobot", "--spec", "tabletop"], "--robot lerobot needs --robot-config"),
        (["--device", "lerobot"], "--device lerobot needs --device-config"),
        (["--device", "scripted", "--robot", "metaworld"], "--device scripted knows tabletop and tabletop-suite"),
    ],
)
def test_what_cannot_be_driven_is_said_in_one_line(tmp_path, capsys, options, words):
    assert main(["teleop", "--out", str(tmp_path / "data"), *options]) == 2
    assert words in capsys.readouterr().err
