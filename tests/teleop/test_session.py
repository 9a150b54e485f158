"""The live session on the simulated tabletop, with a hand that does as the test says and without a page."""

import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from session_rig import PushingPolicy, moved, rests, session, session_with, take_hold, wait_for

from vla.actions.limits import JointLimiter
from vla.cli import main
from vla.data.live import LiveRecorder, LiveSettings
from vla.data.spool import read_frames
from vla.errors import UserError
from vla.robots.gym_sim import GymRobot, find_environment, make_robot
from vla.runtime.clock import EPSILON, SimClock
from vla.runtime.threaded_pilot import ThreadedPilot
from vla.teleop.control import LiveLoop, SessionSettings
from vla.teleop.devices import Reading


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


class FadingHand:
    """Takes hold and pushes to the left. Once it is silent, what it said last stands."""

    name = "fading"

    def __init__(self, clock) -> None:
        self._clock, self._said, self.silent = clock, None, False

    def read(self) -> Reading | None:
        if not self.silent:
            self._said = Reading(np.array([0, 1.0, 0, 0, 0, 0]), 1.0, self._said is not None, self._clock.now)
        return self._said

    def close(self) -> None:
        pass


def test_a_fifth_of_a_second_of_silence_is_noticed_within_a_period_and_the_arm_rests_as_soon_as_it_can(tmp_path):
    robot, settings = make_robot("tabletop", render=False), SessionSettings()
    clock, period = SimClock(robot.spec.rate_hz), 1 / robot.spec.rate_hz
    hand = FadingHand(clock)
    with LiveRecorder(tmp_path / "data", robot.spec, LiveSettings(reserve=0)) as recorder:
        loop = LiveLoop(robot, hand, recorder, None, settings, lambda: clock.now, clock.tick)
        for _ in range(15):
            driven = loop.step(ending=False)
        hand.silent, heard = True, clock.now - period
        after = [(clock.now - heard, loop._gate.motion, loop.step(ending=False)) for _ in range(40)]
    robot.close()
    assert driven.engaged and driven.tool[1] > 0.05 and not driven.trips
    trip = next(i for i, (_, _, moment) in enumerate(after) if moment.trips)
    silence, motion, _ = after[trip]
    assert 0.2 - EPSILON < silence < 0.2 + period + EPSILON
    assert all(moment.engaged for _, _, moment in after[:trip])
    rest = next(i for i, (_, _, moment) in enumerate(after) if moment.at_rest)
    braking = len(JointLimiter(robot.spec.limits, period).stop_path(motion)) * period
    assert (rest - trip) * period <= settings.scaling.settle_s + braking
    assert all(moment.at_rest and moment.driver == "nobody" for _, _, moment in after[rest + 1 :])
    assert np.ptp([moment.tool for _, _, moment in after[rest:]], axis=0).max() < 1e-6


def test_the_recorder_has_its_work_before_the_loop_waits_and_not_beside_the_next_command(tmp_path, monkeypatch):
    robot = make_robot("tabletop", render=False)
    clock, order = SimClock(robot.spec.rate_hz), []
    command = robot.command
    monkeypatch.setattr(robot, "command", lambda action: (order.append("command"), command(action))[1])

    def wait() -> None:
        order.append("wait")
        clock.tick()

    with LiveRecorder(tmp_path / "data", robot.spec, LiveSettings(reserve=0)) as recorder:
        monkeypatch.setattr(recorder, "offer", lambda frame: order.append("record"))
        loop = LiveLoop(robot, FadingHand(clock), recorder, None, SessionSettings(), lambda: clock.now, wait)
        for _ in range(3):
            loop.step(ending=False)
    robot.close()
    assert order == ["command", "record", "wait"] * 3


def test_vla_teleop_takes_an_operator_to_be_gone_after_that_silence_unless_told_otherwise(monkeypatch):
    told = []
    monkeypatch.setattr("vla.teleop.command.teleop", told.append)
    for words in ([], ["--heartbeat", "3"]):
        assert main(["teleop", "--out", "never-made", *words]) == 0
    assert [options.heartbeat for options in told] == [SessionSettings().heartbeat_s, 3]


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


def goes_on_only_when_it_is_asked_to(live, stopped):
    wait_for(live, lambda now: now.stopped == stopped, "the gate stops the arm")
    wait_for(live, lambda now: any(stopped in note.text for note in now.notes), "it is said")
    rests(live)
    live.ask("release")
    wait_for(live, lambda now: now.stopped is None, "it is released")
    rests(live)
    assert live.moment().driver == "nobody" and not live.moment().engaged


def test_a_policy_that_the_gate_stopped_stays_off_when_the_stop_is_released(tmp_path):
    with session(tmp_path, PushingPolicy) as (live, _, _recorder):
        wait_for(live, lambda now: now.step > 2, "it runs")
        live.ask("policy", True)
        moved(live, live.moment().tool)
        live._policy.wanders.set()
        wait_for(live, lambda now: now.stopped is not None, "the gate stops the arm")
        live._policy.wanders.clear()
        goes_on_only_when_it_is_asked_to(live, "non_finite.ee_translation")
        assert not live.moment().policy_on


class NumbRobot(GymRobot):
    """Now and then it does not know where its joints are."""

    def __init__(self) -> None:
        super().__init__(find_environment("tabletop"), render=False)
        self.numb = threading.Event()

    def observe(self):
        seen = super().observe()
        return replace(seen, state=np.full_like(seen.state, np.nan)) if self.numb.is_set() else seen


def test_a_hand_that_had_hold_when_the_gate_stopped_must_take_hold_again(tmp_path):
    robot = NumbRobot()
    robot.connect()
    with session_with(lambda: robot, robot.spec, tmp_path) as (live, hand, _):
        take_hold(live, hand)
        moved(live, live.moment().tool)
        robot.numb.set()
        wait_for(live, lambda now: now.stopped is not None, "the gate stops the arm")
        robot.numb.clear()
        goes_on_only_when_it_is_asked_to(live, "measured")
        take_hold(live, hand)
        moved(live, live.moment().tool)


def test_taking_hold_leaves_the_gripper_as_it_is_until_the_hand_opens_or_closes(tmp_path):
    with session(tmp_path) as (live, hand, _):
        for opening, changed in ((0.0, 0.6), (0.4, 1.0)):
            hand.clutch = False
            wait_for(live, lambda now: not now.engaged, "the hand lets go")
            hand.gripper, before = opening, live.moment().gripper
            take_hold(live, hand, np.zeros(6))
            step = live.moment().step
            hand.gripper += 0.04
            wait_for(live, lambda now, step=step: now.step > step + 3, "time passes")
            assert live.moment().gripper == before, "a hand is never quite still"
            hand.gripper = changed
            wait_for(live, lambda now, changed=changed: now.gripper == changed, "the gripper follows")
            hand.gripper = opening
            wait_for(live, lambda now, opening=opening: now.gripper == opening, "and back")


def test_a_policy_for_another_robot_is_refused(tmp_path):
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


def test_record_again_takes_back_no_other_take_than_the_one_begun_last(tmp_path):
    with session(tmp_path, seed=3) as (live, _hand, recorder):
        for last_seed, ending in ((3, "success"), (4, "discard")):
            live.ask("start")
            wait_for(live, lambda _: recorder.status().frames > 3, "frames are recorded")
            live.ask(ending)
            wait_for(live, lambda now, seed=last_seed: now.seed == seed + 1, "the next scene comes")
        for _ in range(2):
            live.ask("again")
        wait_for(live, lambda now: now.seed == 4, "the scene of the take begun last is back")
        recorder.settle()
        assert len(recorder.status().takes) == 1


def test_record_again_leaves_the_take_before_one_that_could_not_be_kept(tmp_path):
    with session(tmp_path, seed=3) as (live, _hand, recorder):
        for last_seed in (3, 4):
            live.ask("start")
            wait_for(live, lambda _: recorder.status().recording, "it records")
            wait_for(live, lambda _: recorder.status().frames > 3, "frames are recorded")
            live.ask("success")
            wait_for(live, lambda now, seed=last_seed: now.seed == seed + 1, "the next scene comes")
            (tmp_path / "data.live" / "take-000001" / "in the way").mkdir(parents=True, exist_ok=True)
        wait_for(live, lambda _: "the open take is lost" in recorder.status().trouble, "it is said")
        live.ask("again")
        wait_for(live, lambda now: now.seed == 4, "the scene of the lost take is back")
        recorder.settle()
        assert [kept.take.number for kept in recorder.status().takes] == [0]
        assert (tmp_path / "data.live" / "take-000000").exists()


def test_a_take_holds_nothing_from_before_the_operator_was_away(tmp_path):
    with session(tmp_path, preroll_s=60) as (live, hand, recorder):
        wait_for(live, lambda now: now.step > 5, "it runs")
        hand.present = False
        step = live.moment().step
        wait_for(live, lambda now: now.step > step + 5 and now.at_rest, "time passes")
        away = live.moment().captured
        hand.present = True
        wait_for(live, lambda now: now.step > step + 10, "the operator is back")
        live.ask("start")
        wait_for(live, lambda _: recorder.status().frames > 3, "frames are recorded")
        live.ask("success")
        wait_for(live, lambda now: now.seed == 1, "the next scene comes")
        recorder.settle()
        frames = list(read_frames(tmp_path / "data.live" / "take-000000", live_spec(live)))
    assert all(frame.decided > away for frame in frames)


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


def test_a_stop_outlasts_the_end_of_a_take_and_the_next_scene(tmp_path):
    with session(tmp_path) as (live, hand, recorder):
        take_hold(live, hand)
        live.ask("start")
        wait_for(live, lambda _: recorder.status().frames > 3, "frames are recorded")
        live.ask("stop")
        live.ask("success")
        wait_for(live, lambda now: now.seed == 1 and now.at_rest, "the next scene comes")
        start = live.moment().tool
        for clutch in (False, True):
            hand.clutch, step = clutch, live.moment().step
            wait_for(live, lambda now, step=step: now.step > step + 5, "time passes")
        now = live.moment()
        assert now.stopped == "emergency stop" and not now.engaged and np.abs(now.tool - start).max() < 1e-3
        live.ask("release")
        wait_for(live, lambda now: now.stopped is None, "it is released")
        take_hold(live, hand)
        moved(live, start)
