"""The control loop: a robot, a policy's two halves, and simulated time charging each half its latency."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vla.errors import UserError
from vla.robots.base import Body, Observation
from vla.runtime.clock import SimClock
from vla.runtime.mailbox import Mailbox
from vla.runtime.pilot import Pilot, Policy, rest_action
from vla.runtime.s2_worker import SlowWorker
from vla.runtime.stitcher import Action
from vla.runtime.telemetry import StepView, Trace
from vla.runtime.timed import Images, timed

if TYPE_CHECKING:  # loads torch, which a process that only watches has no use for
    from vla.s2.thought import Thought


@dataclass(frozen=True)
class Timing:
    """Latency charged on simulated time.

    s2_delay: seconds from S2's look to its thought. s2_period: seconds between two looks, by default the delay.
    s1_delay: control steps S1 computes. s2_warn: thoughts older than this, in seconds, are counted; older than
    s2_stop, the robot holds (None: never).
    Raises UserError on a negative or infinite value.
    """

    s2_delay: float = 0.0
    s2_period: float | None = None
    s1_delay: int = 0
    s2_warn: float = 2.0
    s2_stop: float | None = None

    def __post_init__(self) -> None:
        for name in ("s2_delay", "s2_period", "s1_delay", "s2_warn", "s2_stop"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UserError(f"--{name.replace('_', '-')} is {value}: give a number that is not negative")
        if self.s1_delay != int(self.s1_delay):
            raise UserError(f"--s1-delay is {self.s1_delay}: it counts control steps, give a whole number")

    @property
    def period(self) -> float:
        return self.s2_delay if self.s2_period is None else self.s2_period


@dataclass(frozen=True)
class Decision:
    """What to command in one control step, and the thought behind it; held: waiting instead of acting."""

    action: Action
    thought: Thought | None
    age_s: float | None
    held: bool


class ControlLoop:
    """Drives one episode on `SimClock`: one `step` is one control period of the robot, which has just been reset.

    Raises UserError, with the differing entries, if the policy was trained for another spec than the robot's.
    use_thoughts: False runs S1 with "none yet" throughout and S2 not at all (an ablation).
    words_every: seconds between S2's words, for onlookers; None never asks. on_step: called with every StepView.
    """

    def __init__(
        self,
        policy: Policy,
        robot: Body,
        timing: Timing | None = None,
        *,
        use_thoughts: bool = True,
        words_every: float | None = None,
        on_step: Callable[[StepView], None] | None = None,
    ) -> None:
        policy.spec.check_robot(robot.spec)
        self._policy = policy
        self._robot = robot
        self.timing = timing or Timing()
        self._use_thoughts = use_thoughts
        self._on_step = on_step
        self.trace = Trace()
        self.clock = SimClock(robot.spec.rate_hz)
        self._mailbox = Mailbox()
        rest = rest_action(robot.spec, robot.observe().state)
        self._pilot = Pilot(
            policy, robot.spec, rest, self.trace, self.timing.s2_warn, self.timing.s2_stop, use_thoughts
        )
        self._stitcher = self._pilot.stitcher
        self._worker = SlowWorker(
            policy, self._mailbox, self.trace, self.timing.s2_delay, self.timing.period, words_every
        )
        self._instruction = ""
        self._instruction_id = -1
        self._replan_at = 0
        self._words: str | None = None

    def instruct(self, text: str) -> None:
        """Ask for something (else): the robot holds until S2 has a thought about it."""
        self._instruction = text
        self._instruction_id += 1
        self._replan_at = self.clock.step
        self._words = None
        self._stitcher.drop()

    def step(self) -> None:
        """One control period: let S2 look, replan S1 if it is due, command the robot."""
        observation = self._robot.observe()
        step, now = self.clock.step, self.clock.now
        decision = self._decide(step, now, observation, due=step >= self._replan_at)
        self._pilot.remember(observation)
        sent = self._robot.command(decision.action)
        if self._on_step is not None:
            thought, age = decision.thought, decision.age_s
            view = StepView(step, now, observation, self._instruction, sent, thought, age, self._words, decision.held)
            self._on_step(view)
        self.clock.tick()
        self.trace.steps += 1
        self.trace.starvations = self._stitcher.starvations

    def _decide(self, step: int, now: float, observation: Observation, due: bool) -> Decision:
        if self._use_thoughts:
            self._worker.advance(now, observation.images, self._instruction, self._instruction_id, wanted=due)
        thought = self._mailbox.newest(self._instruction_id)
        if thought is not None and thought.text is not None:
            self._words = thought.text
        age = None if thought is None else thought.age(now)
        waits = self._pilot.waits(age)
        if waits is not None:
            self._stitcher.drop()
            self._replan_at = step + 1
            self.trace.holds += waits == "no thought"
            self.trace.stale += waits == "old thought"
            return Decision(self._stitcher.hold(), thought, age, held=True)
        if due:
            self._replan(step, now, observation, thought)
        return Decision(self._stitcher.next(step), thought, age, held=False)

    def _replan(self, step: int, now: float, observation: Observation, thought: Thought | None) -> None:
        delay = self.timing.s1_delay
        chunk = self._pilot.plan(step, now, observation, thought, delay)
        rows = len(chunk.actions)
        if delay >= rows:
            raise UserError(f"--s1-delay is {delay} steps, but this policy's chunks are {rows} long: give less")
        self._stitcher.commit(chunk)
        # S1 computes one chunk at a time: a slow one puts the next replan off.
        self._replan_at = step + max(self._pilot.replan_steps, delay)

    def _think(self, now: float, images: Images) -> Thought:
        """A thought of this moment, at once: for loops that wait for S2."""
        text, number = self._instruction, self._instruction_id
        thought, ms = timed(lambda seen: self._policy.think(seen, text, now, number), images)
        self.trace.s2_ms.append(ms)
        return thought

    def run(self, instruction: str | Callable[[], str], max_steps: int, finished: Callable[[], bool]) -> Trace:
        """Follow an instruction, which may change if it is asked for, until `finished()` or for `max_steps` periods."""
        ask = instruction if callable(instruction) else lambda: instruction
        for _ in range(max_steps):
            if finished():
                break
            if (wanted := ask()) != self._instruction or self._instruction_id < 0:
                self.instruct(wanted)
            self.step()
        return self.trace
