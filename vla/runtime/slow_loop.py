"""S2 in wall-clock time: it looks at the newest images whenever it is free and due, and leaves a thought."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from vla.errors import Unreachable, UserError
from vla.processes import Ending, Maker, settle
from vla.robots.senses import SenseMemory, Senses
from vla.runtime.reports import Instruction, SlowReport, report_slot
from vla.runtime.s2_worker import Looks, Thinker
from vla.runtime.shared_mailbox import SharedMailbox
from vla.shared_slot import Slot
from vla.spec import RobotSpec

_NAP, _SIGN_OF_LIFE = 0.005, 0.2


@dataclass(frozen=True)
class SlowMemory:
    """Shared memory of S2's process: what it is asked, where its thoughts go, and what it reports."""

    instruction: Any
    thoughts: Any
    reports: Any


class SlowLoop:
    """period: seconds between two looks; a look that takes longer puts the next one off."""

    def __init__(
        self,
        thinker: Thinker,
        senses: Senses,
        instructions: Slot,
        mailbox: SharedMailbox,
        period: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._thinker, self._senses, self._mailbox, self._clock = thinker, senses, mailbox, clock
        self._cold = True
        self._instructions = instructions
        self._looks = Looks(period)
        self._seen = float("-inf")

    def turn(self) -> SlowReport | None:
        """Look, if there is something new to look at and it is time; None if not. A server that is away is asked again
        when the next look is due.
        """
        held = self._instructions.held()
        if self._cold and not held:
            self._warm_up()
        self._cold = False
        observation = self._senses.observe()
        if not held or observation is None:
            return None
        instruction = Instruction.unpack(held[-1])
        now = self._clock()
        fresh = observation.stamp > self._seen
        if not (fresh and self._looks.due(now, instruction.id)):
            return None
        self._looks.note(now, instruction.id)
        self._seen = observation.stamp
        try:
            thought = self._thinker.think(observation.images, instruction.text, observation.stamp, instruction.id)
        except Unreachable as error:
            return SlowReport(self._clock(), away=str(error))
        self._mailbox.put(thought)
        done = self._clock()
        return SlowReport(done, 1e3 * (done - now), observation.stamp, instruction.id)

    def _warm_up(self) -> None:
        """Think about nothing, while nothing is asked: the first call of a model pays for what the others do not, and
        says whether its thoughts fit. Nobody asks for instruction -1, so nobody follows this thought."""
        with suppress(Unreachable):
            self._mailbox.put(self._thinker.think(self._senses.dark(), "wait", self._clock(), -1))


def run(policy: Maker, spec: RobotSpec, senses: SenseMemory, memory: SlowMemory, period: float, parent: int) -> None:
    """The process's main function. It reports when it is ready to look, and now and then even if it has nothing to look
    at, as a sign of life.
    """
    ending = Ending(parent)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes that share few cores
    reports = report_slot(memory.reports)
    try:
        mailbox = SharedMailbox(memory.thoughts)
        loop = SlowLoop(policy.make(), Senses(spec, senses), Slot(memory.instruction), mailbox, period)
        settle()
        told = 0.0
        while not ending:
            report = loop.turn()
            if report is not None or time.monotonic() > told + _SIGN_OF_LIFE:
                told = time.monotonic()
                reports.put((report or SlowReport(told)).pack())
            time.sleep(_NAP)
    except UserError as error:
        reports.put(SlowReport(time.monotonic(), error=str(error)[:1000]).pack())
