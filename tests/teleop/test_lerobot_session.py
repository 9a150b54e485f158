"""A session with a robot of LeRobot, here one of a plugin in MuJoCo."""

import numpy as np
from lerobot_plugin import SPEC
from session_rig import moved, rests, session_with, take_hold, wait_for

from vla.data.spool import read_frames
from vla.robots.lerobot import LeRobotRobot


def test_a_vanished_camera_ends_the_take_and_says_so_and_may_come_back(tmp_path, lerobot_plugins):
    unplugged = tmp_path / "unplugged"
    config = ["type=tablearm", f"unplugged={unplugged}", f"calibration_dir={tmp_path}"]

    def make():
        robot = LeRobotRobot(SPEC, config)
        robot.connect()
        return robot

    with session_with(make, SPEC, tmp_path, instruction="push it") as (live, hand, recorder):
        take_hold(live, hand)
        live.ask("start")
        moved(live, live.moment().tool)
        wait_for(live, lambda _: recorder.status().frames > 5, "frames are recorded")
        unplugged.touch()
        wait_for(live, lambda now: any("kept as a failure" in note.text for note in now.notes), "the take ends")
        assert any("front: the newest picture is too old" in note.text for note in live.moment().notes)
        rests(live)
        live.ask("start")
        wait_for(live, lambda now: any("senses are lost" in note.text for note in now.notes), "no take begins")
        unplugged.unlink()
        wait_for(live, lambda now: any("senses again" in note.text for note in now.notes), "it comes back")
        take_hold(live, hand)
        moved(live, live.moment().tool)
        recorder.settle()
        (kept,) = recorder.status().takes
        frames = list(read_frames(tmp_path / "data.live" / "take-000000", SPEC))
    assert not kept.take.success and kept.take.task == "push it" and len(frames) == kept.take.frames
    joints = np.array([frame.state[:7] for frame in frames])
    assert np.ptp(joints, axis=0).max() > 0.5, "degrees are recorded as degrees"
