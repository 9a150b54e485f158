"""The live session on the simulated tabletop, with a hand that does as the test says and without a page."""

import threading
import time
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest

from vla.data.live import LiveRecorder, LiveSettings
from vla.data.spool import read_frames
from vla.errors import UserError
from vla.robots.gym_sim import make_robot
from vla.teleop.control import SessionSettings
from vla.teleop.devices import Reading
from vla.teleop.pilot import ThreadedPilot
from vla.teleop.session import Session

PATIENCE_S = 300


class ScriptedHand:
    """An operator who is there until told otherwise."""

    name = "script"

    def __init__(self) -> None:
        self.move, self.clutch, self.present, self.gripper = np.zeros(6), False, True, 1.0

    def read(self) -> Reading | None:
        return Reading(self.move, self.gripper, self.clutch, time.monotonic()) if self.present else None

    def close(self) -> None:
        pass


class PushingPolicy:
    """Thinks nothing and pushes the tool to the left at 0.1 m/s."""

    class config:
        replan_steps = 5

    def __init__(self, spec) -> None:
        self.spec = spec
        self.broken = threading.Event()

    def think(self, images, instruction, stamp, instruction_id=0, words=False):
        import torch

        from vla.s2.thought import Thought

        return Thought(torch.zeros(1, 1), stamp, instruction_id, f"I see: {instruction}" if words else None)

    def act(self, images, state, thought, now, prefix):
        if self.broken.is_set():
            raise ValueError("out of order")
        return np.tile(np.array([0, 0.005, 0, 0, 0, 0, 1], np.float32), (10, 1))


@contextmanager
def session(folder, policy=None, seed=0):
    hand = ScriptedHand()
    live = LiveSettings("operator", "script", preroll_s=0, reserve=0)
    robot = make_robot("tabletop", render=False)
    with LiveRecorder(folder / "data", robot.spec, live) as recorder:
        made = policy(robot.spec) if policy else None
        settings = SessionSettings(seed, heartbeat_s=5.0, policy_name="pushing")
        live_session = Session(lambda: robot, hand, recorder, made, settings)
        live_session.start()
        try:
            yield live_session, hand, recorder
        finally:
            live_session.close()


def wait_for(session, condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition(session.moment()):
        assert time.monotonic() < deadline, f"{what}: {session.moment().notes}"
        assert session.alive, session.error
        time.sleep(0.01)


def take_hold(session, hand, move=(0, 1.0, 0, 0, 0, 0)):
    hand.clutch = False
    before = session.moment().step
    wait_for(session, lambda now: now.step > before + 2, "letting go is seen")
    hand.clutch, hand.move = True, np.array(move)
    wait_for(session, lambda now: now.engaged, "the clutch engages")


def moved(session, since, axis=1, by=0.01):
    wait_for(session, lambda now: abs(now.tool[axis] - since[axis]) > by, "the arm moves")


def rests(session):
    wait_for(session, lambda now: now.at_rest, "the arm rests")
    here = session.moment().tool
    before = session.moment().step
    wait_for(session, lambda now: now.step > before + 3, "time passes")
    assert np.abs(session.moment().tool - here).max() < 1e-6


def test_the_hand_moves_the_arm_and_letting_go_stops_it(tmp_path):
    with session(tmp_path) as (live, hand, _):
        start = live.moment().tool
        take_hold(live, hand)
        moved(live, start)
        assert live.moment().driver == "person"
        hand.clutch = False
        rests(live)
        assert live.moment().driver == "nobody"


def test_an_operator_who_vanishes_stops_the_arm_and_must_take_hold_again(tmp_path):
    with session(tmp_path) as (live, hand, _):
        start = live.moment().tool
        take_hold(live, hand)
        moved(live, start)
        hand.present = False
        rests(live)
        hand.present = True
        rests(live)
        assert not live.moment().engaged and "left" in live.moment().why
        take_hold(live, hand)
        moved(live, live.moment().tool)


def test_a_take_holds_what_was_commanded_and_what_was_applied_and_ends_with_the_next_scene(tmp_path):
    with session(tmp_path) as (live, hand, recorder):
        take_hold(live, hand)
        live.ask("start")
        wait_for(live, lambda _: recorder.status().frames > 10, "frames are recorded")
        live.ask("success")
        wait_for(live, lambda now: now.seed == 1, "the next scene comes")
        recorder.settle()
        (kept,) = recorder.status().takes
        assert kept.take.success and kept.take.operator == "operator" and kept.take.task
        frames = list(read_frames(tmp_path / "data.live" / "take-000000", live_spec(live)))
    assert len(frames) == kept.take.frames and {frame.driver for frame in frames} == {"person"}
    for before, after in pairwise(frames):
        step = after.state[7:10] - before.state[7:10]
        assert np.abs(step - before.applied[:3]).max() < 0.01, "the state follows from the action beside it"
    assert all(frame.decided >= frame.captured["state"] for frame in frames)


def live_spec(live):
    return live._make_robot().spec


def test_stop_latches_until_it_is_released(tmp_path):
    with session(tmp_path) as (live, hand, recorder):
        start = live.moment().tool
        take_hold(live, hand)
        moved(live, start)
        live.ask("stop")
        wait_for(live, lambda now: now.stopped is not None, "it stops")
        rests(live)
        hand.clutch = False
        live.ask("start")
        wait_for(live, lambda now: any("release the stop" in note.text for note in now.notes), "no take begins")
        assert not recorder.status().recording
        live.ask("release")
        wait_for(live, lambda now: now.stopped is None, "it is released")
        take_hold(live, hand)
        moved(live, live.moment().tool)


def test_the_policy_drives_until_a_person_takes_hold_and_again_when_they_let_go(tmp_path):
    with session(tmp_path, PushingPolicy) as (live, hand, recorder):
        wait_for(live, lambda now: now.step > 2, "it runs")
        start = live.moment().tool
        live.ask("start")
        live.ask("policy", True)
        moved(live, start)
        assert live.moment().driver == "policy" and live.moment().pilot.words.startswith("I see: ")
        take_hold(live, hand, (0, -1.0, 0, 0, 0, 0))
        since = live.moment().tool
        wait_for(live, lambda now: now.tool[1] < since[1] - 0.01, "the person moves it the other way")
        assert live.moment().driver == "person" and live.moment().policy_on
        hand.clutch = False
        wait_for(live, lambda now: now.driver == "policy", "the policy has it back")
        moved(live, live.moment().tool)
        live.ask("fail")
        wait_for(live, lambda now: now.seed == 1, "the next scene comes")
        recorder.settle()
        (kept,) = recorder.status().takes
        frames = list(read_frames(tmp_path / "data.live" / "take-000000", live_spec(live)))
    drivers = [frame.driver for frame in frames]
    assert kept.take.interventions == drivers.count("person") > 0 and drivers.count("policy") > 0
    assert all(frame.intervention == (frame.driver == "person") for frame in frames)
    gaps = np.abs(np.diff([frame.applied[:3] for frame in frames], axis=0)).max()
    assert gaps < 0.012, "no hand-over is a jerk"


def test_the_policy_is_off_when_the_operator_leaves(tmp_path):
    with session(tmp_path, PushingPolicy) as (live, hand, _):
        wait_for(live, lambda now: now.step > 2, "it runs")
        live.ask("policy", True)
        moved(live, live.moment().tool)
        hand.present = False
        wait_for(live, lambda now: not now.policy_on, "the policy is off")
        rests(live)
        live.ask("policy", True)
        wait_for(live, lambda now: any("no operator" in note.text for note in now.notes), "it stays off")


def test_a_policy_that_fails_is_said_and_the_arm_holds(tmp_path):
    with session(tmp_path, PushingPolicy) as (live, _, _recorder):
        wait_for(live, lambda now: now.step > 2, "it runs")
        live._policy.broken.set()
        live.ask("policy", True)
        wait_for(live, lambda now: any("out of order" in note.text for note in now.notes), "it is said")
        rests(live)
        assert not live.moment().policy_on


def test_a_policy_for_another_robot_is_refused(tmp_path):
    from dataclasses import replace

    robot = make_robot("tabletop", render=False)
    with pytest.raises(UserError, match="another robot"):
        ThreadedPilot(PushingPolicy(replace(robot.spec, rate_hz=50)), robot.spec)
    robot.close()


def test_record_again_brings_the_same_scene_and_undo_takes_the_newest_away(tmp_path):
    with session(tmp_path, seed=3) as (live, _hand, recorder):
        for last_seed in (3, 4):
            live.ask("start")
            wait_for(live, lambda _: recorder.status().frames > 3, "frames are recorded")
            live.ask("success")
            wait_for(live, lambda now, seed=last_seed: now.seed == seed + 1, "the next scene comes")
        live.ask("again")
        wait_for(live, lambda now: now.seed == 4, "the scene of the newest take is back")
        live.ask("undo")
        wait_for(live, lambda _: not recorder.status().takes, "no take is left")
        live.ask("undo")
        wait_for(live, lambda now: any("left to undo" in note.text for note in now.notes), "it is said")


def test_words_cannot_change_within_a_take_and_may_be_ones_the_scene_cannot_judge(tmp_path):
    with session(tmp_path) as (live, _hand, recorder):
        live.ask("instruct", "tidy up the whole table, please")
        wait_for(live, lambda now: now.instruction.startswith("tidy"), "the words are taken")
        assert any("you judge" in note.text for note in live.moment().notes)
        live.ask("start")
        wait_for(live, lambda _: recorder.status().recording, "it records")
        live.ask("instruct", "something else")
        wait_for(live, lambda now: any("keeps its words" in note.text for note in now.notes), "it is refused")
        live.ask("discard")
        wait_for(live, lambda now: now.seed == 1, "the next scene comes")
        assert not recorder.status().takes
