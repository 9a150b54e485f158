"""One instruction on a robot that is connected, until it is done, the time is over, or somebody says stop."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vla.errors import UserError
from vla.robots.base import Observation
from vla.robots.dds import DdsRobot, Interrupted
from vla.runtime.guarded import REST_S, GuardedRobot
from vla.runtime.loop import ControlLoop, Timing
from vla.runtime.pilot import Policy, rest_action
from vla.runtime.telemetry import StepView, Trace
from vla.runtime.threaded_pilot import ThreadedPilot
from vla.s2.places import plain_words
from vla.spec import RobotSpec

Outcome = Literal["success", "timeout", "canceled", "stopped", "failed"]
Action = NDArray[np.float32]

_PERCENT = re.compile(r",?\s*\b(\d+) percent\s*$")


@dataclass(frozen=True)
class EpisodeSettings:
    """timing: latencies charged in lockstep, and how old a thought may be. gate: the safety gate is in the path.

    seed: of the scene that a simulated robot begins first; None takes the robot as it is. words_s: seconds between
    S2's words, None for none.
    """

    timing: Timing = field(default_factory=Timing)
    gate: bool = True
    seed: int | None = None
    words_s: float | None = 1.0


@dataclass(frozen=True)
class Progress:
    """After a control step. words: the newest S2 said. thought: the one in use, age_s: its age. s1_ms: of S1's last
    chunk."""

    steps: int
    words: str
    thought: Any | None
    age_s: float | None
    s1_ms: float
    held: bool

    @property
    def subtask(self) -> str:
        return _PERCENT.sub("", plain_words(self.words))

    @property
    def share(self) -> float:
        """Of the instruction that is done, if S2 says; else NaN."""
        said = _PERCENT.search(self.words)
        return int(said.group(1)) / 100 if said else math.nan


@dataclass(frozen=True)
class Result:
    outcome: Outcome
    reason: str
    steps: int


class Episode:
    """`run` once. `stop` from any thread, at any time: then the robot brakes and holds.

    seconds: on the robot's clock. tell: called after every control step. A robot in lockstep is driven on its own time,
    and waits for S1 and S2; another by S1 and S2 in threads of their own, which it does not wait for.
    """

    def __init__(
        self,
        policy: Policy,
        robot: DdsRobot,
        settings: EpisodeSettings,
        instruction: str,
        seconds: float,
        tell: Callable[[Progress], None],
    ) -> None:
        self._policy, self._robot, self._settings = policy, robot, settings
        self._instruction, self._asked, self._seconds, self._tell = instruction, "", seconds, tell
        self._stopped: tuple[Outcome, str] | None = None
        self._lock = threading.Lock()
        self._ended = False
        self._driver: OnRobotTime | InRealTime | None = None
        self.steps = 0
        self.counts: dict[str, int] = {}

    def stop(self, outcome: Outcome, reason: str) -> None:
        """The first reason stays."""
        with self._lock:
            if self._stopped is None and not self._ended:
                self._stopped = outcome, reason
                self._robot.interrupt()

    def run(self) -> Result:
        """Never raises for what the robot or the policy does."""
        body: GatedRobot | None = None
        try:
            body = self._begin()
            outcome, reason = self._follow(body)
        except Interrupted:
            assert self._stopped is not None
            outcome, reason = self._stopped
        except UserError as error:
            outcome, reason = "failed", str(error)
        except Exception as error:  # the policy's trouble is not the robot's: it holds, and this is said
            outcome, reason = "failed", f"{type(error).__name__}: {error}"
        with self._lock:
            self._ended = True
            self._robot.resume()
        self._rest(body)
        if self._driver is not None:  # after the arm rests: a model may still be computing
            self._driver.close()
        return Result(outcome, reason, self.steps)

    def _begin(self) -> GatedRobot:
        robot = self._robot
        robot.reset(self._settings.seed)
        if self._instruction and self._instruction != robot.instruction:
            robot.set_instruction(self._instruction)
        self._asked = robot.instruction
        self._instruction = self._instruction or self._asked
        if not self._instruction:
            raise UserError("this robot has no task of its own: give an instruction")
        if self._stopped is not None:
            raise Interrupted
        return GatedRobot(robot, self._settings.gate)

    def _follow(self, body: GatedRobot) -> tuple[Outcome, str]:
        import torch

        robot, rate = self._robot, self._robot.spec.rate_hz
        torch.manual_seed(self._settings.seed or 0)
        begin, limit = body.observe().stamp, math.ceil(self._seconds * rate)
        make = OnRobotTime if robot.outcome.lockstep else InRealTime
        self._driver = driver = make(self._policy, body, self._settings, self._instruction)
        with torch.inference_mode():
            while not robot.success:
                if self.steps >= limit or body.seen.stamp - begin >= self._seconds:
                    return "timeout", f"not done after {self._seconds:g} s"
                if robot.instruction != self._asked:  # the simulated scene asks for something else
                    self._asked = robot.instruction
                    driver.instruct(self._asked)
                progress = driver.step()
                self.steps = progress.steps
                self.counts = body.counts | driver.counts
                self._tell(progress)
        return "success", ""

    def _rest(self, body: GatedRobot | None) -> None:
        if body is None:
            return  # nothing has been commanded
        try:
            body.rest()
            self._robot.hold()
        except (UserError, Interrupted, RuntimeError):
            return  # there is no robot any more, or another has taken it


class GatedRobot:
    """A `Body` that takes None for "hold". gate: brings commands within the spec's limits; UserError if it has none.

    when_found: called when the robot is seen again after it was out of touch; what was planned before is over then.
    """

    def __init__(self, robot: DdsRobot, gate: bool) -> None:
        self._robot = robot
        self.when_found: Callable[[], None] = lambda: None
        self.seen = robot.observe()
        self._losses = robot.losses
        self._guarded = GuardedRobot(robot) if gate else None
        if self._guarded:
            self._guarded.release(self.seen)
        self._last = rest_action(robot.spec, self.seen.state)

    @property
    def spec(self) -> RobotSpec:
        return self._robot.spec

    @property
    def counts(self) -> dict[str, int]:
        """How often the gate enforced which rule."""
        return dict(self._guarded.gate.counts) if self._guarded else {}

    def observe(self) -> Observation:
        """Raises UserError if the robot was out of touch, and is now where the gate cannot begin."""
        self.seen = self._robot.observe()
        if self._lost:
            if self._guarded:
                self._guarded.find(self.seen)
            self._last = rest_action(self.spec, self.seen.state)
            self._losses = self._robot.losses
            self.when_found()
        return self.seen

    @property
    def _lost(self) -> bool:
        """The robot was out of touch: it need not be where it was told to be."""
        return self._robot.losses != self._losses

    def command(self, action: Action | None) -> Action:
        """Raises UserError when the gate has stopped."""
        if self._guarded is None:
            self._last = self._robot.command(self.spec.hold_action(self._last) if action is None else action)
            return self._last
        passed = self._guarded.check(action, self.seen.stamp, self.seen)
        self._last = self._guarded.send(passed)
        if passed.stopped:
            raise UserError(f"the safety gate has stopped the arm: {passed.stopped}")
        return self._last

    def rest(self) -> None:
        """Brake, from where the robot was told to be, for as long as its limits ask."""
        for _ in range(math.ceil(REST_S * self.spec.rate_hz)):
            if self._guarded is None or self._lost or self._guarded.gate.at_rest:
                return
            self._guarded.send(self._guarded.check(None, self.seen.stamp, self.seen))


class OnRobotTime:
    """S1 and S2 while the robot waits for them."""

    def __init__(self, policy: Policy, body: GatedRobot, settings: EpisodeSettings, instruction: str) -> None:
        self._loop = ControlLoop(policy, body, settings.timing, words_every=settings.words_s, on_step=self._look)
        self._body = body
        self.instruct(instruction)
        self._view: StepView | None = None

    def instruct(self, text: str) -> None:
        self._loop.instruct(text)
        self._body.when_found = lambda: self._loop.instruct(text)

    def step(self) -> Progress:
        self._loop.step()
        view, trace = self._view, self._loop.trace
        assert view is not None
        s1_ms = trace.s1_ms[-1] if trace.s1_ms else 0.0
        return Progress(trace.steps, view.words or "", view.thought, view.age_s, s1_ms, view.held)

    @property
    def counts(self) -> dict[str, int]:
        return dict(self._loop.trace.counts())

    def close(self) -> None:
        pass

    def _look(self, view: StepView) -> None:
        self._view = view


class InRealTime:
    """S1 and S2 in threads of their own; where they are late the robot holds."""

    def __init__(self, policy: Policy, body: GatedRobot, settings: EpisodeSettings, instruction: str) -> None:
        self._body = body
        self._pilot = ThreadedPilot(policy, body.spec, settings.timing.s2_stop, settings.words_s)
        self._pilot.instruct(instruction)
        self._pilot.engage(body.seen)
        body.when_found = lambda: self._pilot.engage(body.seen)
        self._trace = Trace()

    def instruct(self, text: str) -> None:
        self._pilot.instruct(text)

    def step(self) -> Progress:
        """Raises UserError if the policy failed."""
        seen = self._body.observe()
        action = self._pilot.next(seen, time.monotonic(), self._trace.steps)
        status = self._pilot.status()
        if status.failed:
            raise UserError(f"the policy failed: {status.failed}")
        self._body.command(action)
        self._trace.steps += 1
        self._trace.holds += action is None
        thought = None if status.age_s is None else self._pilot.thought
        return Progress(self._trace.steps, status.words, thought, status.age_s, status.s1_ms, action is None)

    @property
    def counts(self) -> dict[str, int]:
        return {"holds": self._trace.holds}

    def close(self) -> None:
        self._pilot.close()
