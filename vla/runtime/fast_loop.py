"""S1 in wall-clock time: from the newest images, joints and thought to chunks with the time at which they start."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vla.errors import Unreachable, UserError
from vla.processes import Ending, Maker, settle
from vla.robots.base import Observation
from vla.robots.senses import SenseMemory, Senses
from vla.robots.stuck_camera import StuckCameras
from vla.runtime.chunk_port import ChunkPort
from vla.runtime.pilot import Pilot, Policy, rest_action
from vla.runtime.reports import FastReport, Instruction, report_slot
from vla.runtime.shared_mailbox import SharedMailbox
from vla.runtime.stitcher import Chunk
from vla.runtime.telemetry import Trace
from vla.shared_slot import Slot
from vla.spec import RobotSpec

if TYPE_CHECKING:
    from vla.s2.thought import Thought

_NAP, _SIGN_OF_LIFE = 0.002, 0.2
_REMEMBERED = 16
"""How many of its last chunks S1 looks back at to foresee how long the next one takes."""
_ASK_AGAIN = 0.1
"""So long (s) after a policy's server was found to be away it is asked again."""
_ON_THE_WAY = 0.01
"""From a chunk that is sent to the sample that follows it: up to two periods of the command process (s)."""


@dataclass(frozen=True)
class FastMemory:
    """Shared memory of S1's process: what is asked, S2's thoughts, the way to the command process, what it reports."""

    instruction: Any
    thoughts: Any
    chunks: Any
    reports: Any


@dataclass(frozen=True)
class FastSettings:
    """Seconds. s2_warn, s2_stop: as in `Timing`. image_stop: with an image older than this it holds, and with one
    that has been the same for as long although the robot moved."""

    s2_warn: float = 2.0
    s2_stop: float = 5.0
    image_stop: float = 0.5


class FastLoop:
    """The decisions are `Pilot`'s, as on simulated time; here steps are the clock's, in control periods.

    A chunk is indexed by the capture time of its images: row 0 begins there, and the rows that have passed when it
    arrives are skipped. Until then the robot follows what was sent before, and S1 is told what that is: as many actions
    as it will take, judged by its last chunks: three of four took no longer. Should it take longer yet, the chunk still
    joins on.
    """

    def __init__(
        self,
        policy: Policy,
        spec: RobotSpec,
        senses: Senses,
        instructions: Slot,
        mailbox: SharedMailbox,
        port: ChunkPort,
        how: FastSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        policy.spec.check_robot(spec)
        self._policy, self._spec, self._how, self._clock = policy, spec, how, clock
        self._senses, self._instructions, self._mailbox, self._port = senses, instructions, mailbox, port
        self._pilot: Pilot | None = None
        self._period = 1 / spec.rate_hz
        self._took: deque[float] = deque(maxlen=_REMEMBERED)
        self._longest_delay = 0
        self._instruction_id: int | None = None
        self._stuck = StuckCameras(spec)
        self._due = self._seen = -math.inf
        self._holds = True
        self._sent_until = -math.inf
        self._away, self._ask_again = "", -math.inf

    def turn(self) -> FastReport:
        """Plan, if it is time and nothing forbids it. While a server is away the robot follows what was sent."""
        if self._clock() >= self._ask_again:
            try:
                return self._turn()
            except Unreachable as error:
                self._away, self._ask_again = str(error), self._clock() + _ASK_AGAIN
        now = self._clock()
        return FastReport(now, waits="no server" if now > self._sent_until else None, away=self._away)

    def _turn(self) -> FastReport:
        observation = self._senses.observe()
        if observation is None:
            return FastReport(self._clock(), waits="no images")
        pilot, now = self._pilot or self._begin(observation), self._clock()
        thought = self._thought(pilot)
        age = None if thought is None else thought.age(now)
        image_age = now - observation.stamp
        waits = self._blind(observation, now) or pilot.waits(age)
        if waits is not None:
            if not self._holds:
                self._drop(pilot)
            return FastReport(now, waits=waits, age_s=age, image_age_s=image_age)
        if now < self._due or observation.stamp <= self._seen:
            return FastReport(now, age_s=age, image_age_s=image_age)
        return self._plan(pilot, observation, thought, now, age)

    def _blind(self, observation: Observation, now: float) -> str:
        """Why its images say nothing of now, if so."""
        if now - observation.stamp > self._how.image_stop:
            return "old images"
        stuck = self._stuck.since(observation)
        return f"camera {stuck[0]} is stuck" if stuck and now - stuck[1] > self._how.image_stop else ""

    def _begin(self, observation: Observation) -> Pilot:
        rest, how = rest_action(self._spec, observation.state), self._how
        pilot = Pilot(self._policy, self._spec, rest, Trace(), how.s2_warn, how.s2_stop)
        # The first call of a model pays for what the others do not.
        nothing = np.zeros((0, self._spec.action_size), np.float32)
        self._longest_delay = len(pilot.act(observation, None, observation.stamp, nothing)) // 2
        self._pilot = pilot
        return pilot

    def _thought(self, pilot: Pilot) -> Thought | None:
        held = self._instructions.held()
        if not held:
            return None
        instruction = Instruction.unpack(held[-1])
        if instruction.id != self._instruction_id:
            self._instruction_id = instruction.id
            self._drop(pilot)
        return self._mailbox.newest(instruction.id)

    def _drop(self, pilot: Pilot) -> None:
        pilot.stitcher.drop()
        self._port.hold()
        self._holds, self._due, self._sent_until = True, -math.inf, -math.inf

    def _plan(
        self, pilot: Pilot, observation: Observation, thought: Thought | None, now: float, age: float | None
    ) -> FastReport:
        stamp, period = observation.stamp, self._period
        pilot.stitcher.next(now / period)  # what the robot does now, from which a hold would follow
        takes = (float(np.percentile(self._took, 75)) if self._took else period) + _ON_THE_WAY
        delay = min(math.ceil((now + takes - stamp) / period), self._longest_delay)
        chunk = pilot.plan(stamp / period, stamp, observation, thought, delay)
        done = self._clock()
        self._took.append(done - now)
        self._due, self._seen = now + pilot.replan_steps * period, stamp
        effective = max(chunk.effective, (done + _ON_THE_WAY) / period)
        refused = ""
        try:
            self._port.send(chunk.actions, stamp)
            pilot.stitcher.commit(Chunk(chunk.capture, effective, chunk.actions))
            self._holds, self._sent_until = False, stamp + len(chunk.actions) * period
        except ValueError as error:
            refused = str(error)
        late, ms = effective > chunk.effective, 1e3 * (done - now)
        return FastReport(done, ms, None, age, now - stamp, delay, late, refused)


def run(
    policy: Maker, spec: RobotSpec, senses: SenseMemory, memory: FastMemory, how: FastSettings, parent: int
) -> None:
    """The process's main function. It reports now and then even if nothing changes, as a sign of life."""
    ending = Ending(parent)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes that share few cores
    reports = report_slot(memory.reports)
    try:
        mailbox, port = SharedMailbox(memory.thoughts), ChunkPort(spec, memory.chunks)
        instructions = Slot(memory.instruction)
        loop = FastLoop(policy.make(), spec, Senses(spec, senses), instructions, mailbox, port, how)
        settle()
        told = FastReport(0.0)
        while not ending:
            report = loop.turn()
            if report.ms is not None or report.waits != told.waits or report.time > told.time + _SIGN_OF_LIFE:
                told = report
                reports.put(report.pack())
            time.sleep(_NAP)
    except UserError as error:
        reports.put(FastReport(time.monotonic(), error=str(error)[:1000]).pack())
