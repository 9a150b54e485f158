import dataclasses
import time

import numpy as np
import pytest
from line_world import SPEC, LinePolicy, LineRobot

from vla.errors import UserError
from vla.evaluation.suites.rendering import Pixels
from vla.runtime.loop import ControlLoop, Timing, rest_action
from vla.runtime.variants import build_loop


def drive(steps: int, timing: Timing | None = None, policy: LinePolicy | None = None, **options):
    robot, policy = LineRobot(), policy or LinePolicy()
    loop = ControlLoop(policy, robot, timing, **options)
    trace = loop.run("left", steps, finished=lambda: False)
    return robot, policy, trace


def test_without_delays_every_replan_gets_a_thought_of_this_very_moment():
    robot, policy, trace = drive(9)
    assert robot.moves == [0, 1, 2, 3, 400, 401, 402, 403, 800]
    assert [stamp for stamp, _, _ in policy.thinks] == [0, 0.2, 0.4]
    assert trace.s2_age_s == [0, 0, 0]
    assert trace.counts() == {"holds": 0, "starvations": 0, "stale": 0, "warnings": 0}


def test_the_robot_holds_until_the_first_thought_arrives():
    robot, _, trace = drive(6, Timing(s2_delay=0.2))
    assert robot.moves == [0, 0, 0, 0, 400, 401]
    assert trace.holds == 4


def test_a_hold_keeps_the_gripper_as_it_was():
    robot, _, _ = drive(2, Timing(s2_delay=0.2))
    assert np.allclose(robot.commands, [[0, 0.7], [0, 0.7]])


def test_thoughts_age_by_their_delay_and_by_the_wait_for_the_next():
    _, policy, trace = drive(17, Timing(s2_delay=0.3))
    assert [stamp for stamp, _, _ in policy.thinks] == pytest.approx([0, 0.3, 0.6])
    # Replans at steps 6, 10, 14: thoughts from 0, 0, 0.3 s.
    assert trace.s2_age_s == pytest.approx([0.3, 0.5, 0.4])


def test_a_period_longer_than_the_delay_spaces_the_looks():
    _, policy, _ = drive(24, Timing(s2_delay=0.1, s2_period=0.5))
    assert [stamp for stamp, _, _ in policy.thinks] == pytest.approx([0, 0.5, 1.0])


def test_a_period_shorter_than_the_delay_cannot_overtake_s2_itself():
    _, policy, _ = drive(24, Timing(s2_delay=0.5, s2_period=0.1))
    assert [stamp for stamp, _, _ in policy.thinks] == pytest.approx([0, 0.5, 1.0])


def test_s1_delay_counts_actions_consumed_and_hands_s1_the_committed_ones():
    robot, policy, trace = drive(11, Timing(s1_delay=2))
    assert robot.moves == [0, 0, 2, 3, 4, 5, 402, 403, 404, 405, 802]
    assert [len(call.prefix) for call in policy.acts] == [2, 2, 2]
    assert policy.acts[0].prefix[:, 0].tolist() == [0, 0]
    assert policy.acts[1].prefix[:, 0].tolist() == robot.moves[4:6]
    assert policy.acts[2].prefix[:, 0].tolist() == robot.moves[8:10]
    assert trace.starvations == 0


def test_an_s1_slower_than_its_replan_interval_computes_one_chunk_at_a_time():
    robot, policy, _ = drive(19, Timing(s1_delay=6))
    assert [round(call.now * 20) for call in policy.acts] == [0, 6, 12, 18]
    assert robot.moves[6:18] == [6, 7, 8, 9, 10, 11, 606, 607, 608, 609, 610, 611]


def test_a_chunk_that_runs_out_holds_and_is_counted():
    robot, _, trace = drive(8, policy=LinePolicy(horizon=3, replan_steps=4))
    assert robot.moves == [0, 1, 2, 0, 400, 401, 402, 0]
    assert trace.starvations == 2


def test_an_s1_delay_as_long_as_the_chunk_is_refused():
    with pytest.raises(UserError, match="chunks are 3 long"):
        drive(4, Timing(s1_delay=3), LinePolicy(horizon=3))


def test_a_new_instruction_holds_until_s2_has_looked_again():
    robot, policy = LineRobot(), LinePolicy()
    loop = ControlLoop(policy, robot, Timing(s2_delay=0.1))
    loop.instruct("left")
    for _ in range(7):
        loop.step()
    loop.instruct("right")
    for _ in range(6):
        loop.step()
    assert robot.moves[:7] == [0, 0, 200, 201, 202, 203, 600]
    # Step 7: S2 is still busy with its look of step 6, then looks at step 8 and answers at step 10.
    assert robot.moves[7:] == [0, 0, 0, 1000, 1001, 1002]
    assert all(call.thought.instruction_id == (call.now >= 0.35) for call in policy.acts)


def test_an_idle_s2_turns_to_a_new_instruction_at_once():
    robot, policy = LineRobot(), LinePolicy()
    loop = ControlLoop(policy, robot, Timing(s2_delay=0.0, s2_period=2.0))
    loop.instruct("left")
    loop.step()
    loop.instruct("right")
    loop.step()
    assert policy.thinks == [(0, "left", False), (0.05, "right", False)]
    assert robot.moves == [0, 100]


def test_thoughts_over_the_limit_stop_the_robot_and_older_ones_warn():
    robot, _, trace = drive(15, Timing(s2_delay=0, s2_period=0.5, s2_warn=0.1, s2_stop=0.3))
    # The thought of 0 s is 0.3 s old at step 6, too old at steps 7 to 9; S2 looks again at step 10.
    assert robot.moves == [0, 1, 2, 3, 400, 401, 402, 0, 0, 0, 1000, 1001, 1002, 1003, 1400]
    assert trace.stale == 3
    assert trace.warnings == 2


def test_the_ablation_runs_s1_without_thoughts_and_s2_not_at_all():
    robot, policy, trace = drive(5, use_thoughts=False)
    assert policy.thinks == []
    assert [call.thought for call in policy.acts] == [None, None]
    assert robot.moves == [0, 1, 2, 3, 400]
    assert trace.s2_age_s == []


def test_words_are_asked_first_and_then_every_second_without_touching_the_rest():
    quiet, _, quiet_trace = drive(60, Timing(s2_delay=0.1))
    robot, policy, trace = drive(60, Timing(s2_delay=0.1), words_every=1.0)
    assert [words.stamp for words in trace.words] == pytest.approx([0, 1, 2])
    assert {words.text for words in trace.words} == {"saw left"}
    assert robot.moves == quiet.moves
    assert len(trace.s2_ms) == len(quiet_trace.s2_ms) == len(policy.thinks) - 3


def test_an_onlooker_sees_every_step_with_words_and_age():
    views = []
    drive(6, Timing(s2_delay=0.1), words_every=1.0, on_step=views.append)
    assert [view.step for view in views] == list(range(6))
    assert [view.held for view in views] == [True, True, False, False, False, False]
    assert [view.words for view in views] == [None, None] + ["saw left"] * 4
    assert [view.age_s for view in views] == [None, None, *map(pytest.approx, (0.1, 0.15, 0.1, 0.15))]


def test_a_policy_for_another_robot_is_refused_with_the_difference():
    other = dataclasses.replace(SPEC, rate_hz=30.0)
    with pytest.raises(UserError, match="rate_hz is 30"):
        ControlLoop(LinePolicy(spec=other), LineRobot())


@pytest.mark.parametrize("wrong", [{"s2_delay": -0.1}, {"s2_period": -1}, {"s1_delay": -1}, {"s2_delay": float("nan")}])
def test_negative_times_are_refused(wrong):
    with pytest.raises(UserError, match="not negative"):
        Timing(**wrong)


def test_half_a_control_step_of_delay_is_refused():
    with pytest.raises(UserError, match="whole number"):
        Timing(s1_delay=1.5)  # type: ignore[arg-type]


def test_the_first_hold_of_an_absolute_action_is_the_measured_pose():
    spec = dataclasses.replace(
        SPEC,
        state=(dataclasses.replace(SPEC.state[0], name="joint_position", unit="rad"), SPEC.state[1]),
        action=dataclasses.replace(
            SPEC.action,
            mode="joint_position",
            fields=(dataclasses.replace(SPEC.action.fields[0], name="joint_position"), SPEC.action.fields[1]),
        ),
    )
    assert rest_action(spec, np.array([0.3, 0.7], np.float32)).tolist() == pytest.approx([0.3, 0.7])
    assert rest_action(SPEC, np.array([0.3, 0.7], np.float32)).tolist() == pytest.approx([0, 0.7])


def test_a_changed_instruction_is_followed_from_the_next_step_on():
    robot, policy = LineRobot(), LinePolicy()
    loop = ControlLoop(policy, robot, Timing(s2_delay=0.1))
    loop.run(lambda: "left" if loop.clock.step < 5 else "right", 12, finished=lambda: False)
    assert [stamp for stamp, words, _ in policy.thinks if words == "left"][-1] == pytest.approx(0.2)
    assert next(stamp for stamp, words, _ in policy.thinks if words == "right") == pytest.approx(0.3)
    assert robot.moves[4:8] == [202, 0, 0, 0] and robot.moves[8] > 0  # held until there is a thought about it


class DrawnOnDemand(LineRobot):
    """Its image has to be drawn first, which takes a while."""

    DRAWING_S = 0.02

    def observe(self):
        drawn = super().observe()

        def draw(camera):
            time.sleep(self.DRAWING_S)
            return drawn.images[camera]

        return dataclasses.replace(drawn, images=Pixels(("front",), draw))


class LookingPolicy(LinePolicy):
    def act(self, images, *rest):
        assert images["front"].shape == (2, 2, 3)
        return super().act(images, *rest)


@pytest.mark.parametrize("variant", ["two-speed", "synchronous", "no-thoughts"])
def test_what_the_simulator_takes_to_draw_is_not_the_policys_time(variant):
    robot = DrawnOnDemand()
    trace = build_loop(variant, LookingPolicy(), robot, Timing()).run("left", 12, finished=lambda: False)
    for ms in (trace.s1_ms, trace.s2_ms):
        assert min(ms, default=0.0) < 1e3 * robot.DRAWING_S
