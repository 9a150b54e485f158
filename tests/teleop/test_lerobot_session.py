"""A session with a robot of LeRobot, here one of a plugin in MuJoCo."""

import numpy as np
from lerobot_plugin import SPEC
from session_rig import PushingPolicy, moved, rests, session_with, take_hold, wait_for

from vla.data.spool import read_frames
from vla.robots.lerobot import LeRobotRobot


def arm(folder, *more):
    robot = LeRobotRobot(SPEC, ["type=tablearm", f"calibration_dir={folder}", *more])
    robot.connect()
    return robot


def test_a_vanished_camera_ends_the_take_and_says_so_and_may_come_back(tmp_path, lerobot_plugins):
    unplugged = tmp_path / "unplugged"

    def make():
        return arm(tmp_path, f"unplugged={unplugged}")

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


class StayingPolicy(PushingPolicy):
    """Wants the arm where it was at first."""

    home = None

    def act(self, images, state, thought, now, prefix):
        self.home = state[:8].copy() if self.home is None else self.home
        return np.tile(self.home, (10, 1))


def test_a_policy_that_would_jump_after_a_correction_is_stopped(tmp_path, lerobot_plugins):
    with session_with(lambda: arm(tmp_path), SPEC, tmp_path, StayingPolicy, instruction="stay") as (live, hand, _):
        wait_for(live, lambda now: now.step > 2, "it runs")
        live.ask("policy", True)
        wait_for(live, lambda now: live._policy.home is not None and now.driver == "policy", "the policy drives")
        take_hold(live, hand)
        moved(live, live.moment().tool, by=0.15)
        hand.clutch = False
        wait_for(live, lambda now: now.stopped is not None, "the policy's first pose is too far away")
        assert live.moment().stopped.startswith("start_jump.joint") and not live.moment().policy_on
        live.ask("policy", True)
        wait_for(live, lambda now: any("release the stop" in note.text for note in now.notes), "it stays off")
        live.ask("release")
        wait_for(live, lambda now: now.stopped is None, "it is released")
        rests(live)
