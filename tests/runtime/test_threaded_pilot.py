"""A policy in threads of its own, the control steps in the test's hand."""

import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from line_world import SPEC, LineRobot, LookingBack

from vla.runtime.stepped_pilot import SteppedPilot
from vla.runtime.threaded_pilot import ThreadedPilot
from vla.s2.thought import Thought

PATIENCE = 300.0


@dataclass
class Policy:
    """Its chunks are 16 rows long; its n-th call takes `takes[n]` seconds. It notes how long its prefixes were."""

    takes: dict[int, float]
    spec = SPEC
    config = SimpleNamespace(replan_steps=4)
    prefixes: list[int] = field(default_factory=list)

    def think(self, images, instruction, stamp, instruction_id=0, words=False):
        return Thought(torch.zeros(2, 3), stamp, instruction_id, "" if words else None)

    def act(self, images, state, thought, now, prefix):
        time.sleep(self.takes.get(len(self.prefixes), 0.0))
        self.prefixes.append(len(prefix))
        return np.zeros((16, 2), np.float32)


def until(true):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def engaged():
    """Given a policy, a pilot of it that has been handed a robot, and the robot."""
    pilots = []

    def engage(policy):
        pilots.append(pilot := ThreadedPilot(policy, SPEC))
        pilot.instruct("go on")
        pilot.engage((robot := LineRobot()).observe())
        return pilot, robot

    yield engage
    for pilot in pilots:
        pilot.close()


def planned(pilot, robot, policy, step, calls):
    """One step after the other, until S1 has been called so often; returns the next step."""

    def stepped():
        nonlocal step
        pilot.next(robot.observe(), time.monotonic(), step)
        step += 1
        return len(policy.prefixes) >= calls

    until(stepped)
    return step


def test_s1_is_called_once_when_the_robot_is_handed_over_and_what_that_takes_is_not_expected_again(engaged):
    policy = Policy({0: 20 / SPEC.rate_hz})
    pilot, robot = engaged(policy)
    until(lambda: policy.prefixes)
    assert policy.prefixes == [0] and not robot.commands
    planned(pilot, robot, policy, 0, 2)
    assert policy.prefixes[1] == 1, "a step, as long as nothing else was measured"


def test_after_one_slow_chunk_half_of_the_next_is_still_new(engaged):
    policy = Policy({1: 20 / SPEC.rate_hz})
    pilot, robot = engaged(policy)
    until(lambda: policy.prefixes)
    step = planned(pilot, robot, policy, 0, 2)
    planned(pilot, robot, policy, step, 3)
    assert policy.prefixes[2] == 8


def test_a_policy_that_looks_at_several_steps_is_shown_each_and_none_from_before_it_took_over(engaged):
    policy = LookingBack()
    pilot, robot = engaged(policy)
    drive(pilot, robot, time.monotonic, lambda: len(policy.seen) >= 4)
    policy.check()
    begin = len(robot.commands)
    pilot.engage(robot.observe())
    drive(pilot, robot, time.monotonic, lambda: policy.seen[-1][0][-1:] >= [begin])
    policy.seen = [one for one in policy.seen if one[0][-1:] >= [begin - 1]]
    policy.check(begin)


def test_so_is_one_on_a_simulators_clock():
    policy, robot = LookingBack(), LineRobot()
    pilot = SteppedPilot(policy, SPEC)
    pilot.instruct("go on")
    pilot.engage(robot.observe())
    drive(pilot, robot, lambda: robot.observe().stamp, lambda: len(policy.seen) >= 3)
    policy.check()
    assert policy.seen[-1] == ([6, 7], 8)


def drive(pilot, robot, clock, done):
    """One control step after the other, until `done()`."""

    def stepped():
        action = pilot.next(robot.observe(), clock(), len(robot.commands))
        robot.command(np.zeros(2) if action is None else action)
        return done()

    until(stepped)
