"""A policy on a real robot: behind the safety gate, at the rate of the spec, for so many seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from vla import assets
from vla.errors import UserError
from vla.policies import REAL_TIME_PATIENCE_S, load_policy
from vla.processes import terminated_as_interrupted
from vla.robots.base import Robot, SensesLost
from vla.runtime.clock import Beat
from vla.runtime.guarded import REST_S, GuardedRobot
from vla.runtime.loop import Policy
from vla.runtime.threaded_pilot import ThreadedPilot
from vla.s2.places import plain_words
from vla.spec import RobotSpec


@dataclass(frozen=True)
class GuardedResult:
    """acted: steps in which the robot did what the policy wanted. limited: how often each rule of the gate was applied.
    stopped: why the gate stopped the robot, or None. s1_ms, s2_ms: what the last chunk and thought took.
    """

    steps: int
    acted: int
    late: int
    limited: Mapping[str, int]
    stopped: str | None
    s1_ms: float
    s2_ms: float


def lerobot_rollout(
    policy: str,
    spec: str,
    config: Sequence[str],
    instruction: str,
    seconds: float,
    loaded: Policy | None = None,
    device: str = "cpu",
) -> GuardedResult:
    """Follow `instruction` for `seconds` on a robot of LeRobot's, and print one line about it.

    config: as `vla.robots.lerobot_devices.make_device` takes it. `loaded` is used instead of loading `policy`. Raises
    UserError if the policy was trained for another robot, the robot is not there or loses its senses, the policy
    fails, or the gate stops the robot. However it ends, the robot is brought to rest.
    """
    from vla.robots.lerobot import LeRobotRobot

    robot_spec = RobotSpec.load(assets.find("robot", spec))
    robot = LeRobotRobot(robot_spec, config)
    driver = loaded or load_policy(policy, REAL_TIME_PATIENCE_S, robot_spec, device)
    with terminated_as_interrupted():
        robot.connect()
        try:
            result = drive(robot, driver, instruction, seconds, lambda words: print(f"S2: {words}", flush=True))
        finally:
            robot.close()
    if result.stopped is not None:
        raise UserError(f"the safety gate stopped the robot after {result.steps} steps: {result.stopped}")
    if not result.acted:
        took = f"S2 takes {result.s2_ms:.0f} ms, S1 {result.s1_ms:.0f} ms"
        raise UserError(f"the policy never acted: its thoughts or its chunks came too late; {took}")
    late = f", {result.late} late" if result.late else ""
    limited = ", ".join(f"{rule} {count}" for rule, count in result.limited.items())
    print(
        f"done: acted in {result.acted} of {result.steps} steps{late}: {instruction}; limited: {limited or 'nothing'}"
    )
    return result


def drive(
    robot: Robot, policy: Policy, instruction: str, seconds: float, say: Callable[[str], None] | None = None
) -> GuardedResult:
    """`robot` is connected. say: told S2's words whenever they change."""
    spec = robot.spec
    guarded = GuardedRobot(robot)
    observation, captured = guarded.reset(None), time.monotonic()
    pilot = ThreadedPilot(policy, spec)
    beat, step, acted, words = Beat(spec.rate_hz), 0, 0, ""
    try:
        pilot.instruct(instruction)
        pilot.engage(observation)
        for step in range(math.ceil(seconds * spec.rate_hz)):
            action, status = pilot.next(observation, captured, step), pilot.status()
            if status.failed:
                raise UserError(f"the policy failed: {status.failed}")
            passed = guarded.check(action, time.monotonic(), observation)
            guarded.send(passed)
            acted += not passed.held
            if passed.stopped is not None:
                break
            beat.wait()
            observation, captured = robot.observe(), time.monotonic()
            if say is not None and plain_words(status.words) != words:
                words = plain_words(status.words)
                say(words)
    finally:
        try:
            _rest(guarded)
        finally:  # after the arm rests: a model may still be computing
            pilot.close()
    status = pilot.status()
    counts = {rule: count for rule, count in guarded.gate.counts.items() if rule != guarded.gate.stopped}
    return GuardedResult(step + 1, acted, beat.late, counts, guarded.gate.stopped, status.s1_ms, status.s2_ms)


def _rest(guarded: GuardedRobot) -> None:
    """Brake as the gate does: it knows how, even when the robot does not say where it is any more."""
    beat = Beat(guarded.robot.spec.rate_hz)
    for _ in range(math.ceil(REST_S * guarded.robot.spec.rate_hz)):
        if guarded.gate.at_rest:
            return
        with suppress(SensesLost):
            guarded.send(guarded.check(None, time.monotonic(), None))
        beat.wait()
