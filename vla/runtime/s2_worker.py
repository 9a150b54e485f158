"""S2 on simulated time: it looks now, and what it thought arrives when its latency has passed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from vla.runtime.clock import reached
from vla.runtime.mailbox import Mailbox
from vla.runtime.telemetry import Trace, Words
from vla.runtime.timed import Images, timed

if TYPE_CHECKING:  # loads torch, which a process that only watches has no use for
    from vla.s2.thought import Thought


class Thinker(Protocol):
    """The half of a policy S2's worker needs (`vla.tandem.TandemPolicy` has it)."""

    def think(
        self, images: Images, instruction: str, stamp: float, instruction_id: int = 0, words: bool = False
    ) -> Thought: ...


@dataclass(frozen=True)
class _Flight:
    thought: Thought
    arrives: float


class Looks:
    """When an S2 that is free looks: `period` seconds after it last did, and at once if the instruction is new."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._due = 0.0
        self._last_id: int | None = None

    def due(self, now: float, instruction_id: int) -> bool:
        return reached(now, self._due) or instruction_id != self._last_id

    def note(self, now: float, instruction_id: int) -> None:
        """It looks now."""
        self._due, self._last_id = now + self._period, instruction_id


class SlowWorker:
    """Runs S2 whenever it is free and due.

    A thought started at t on the frame captured at t reaches the mailbox at t + delay; the next one starts at
    max(t + period, t + delay), or as soon as S2 is free if the instruction has changed. With delay and period 0, S2
    thinks exactly when S1 is about to replan: thoughts nobody reads are not computed.

    delay, period: seconds. words_every: ask for words when the last are this old (seconds); None never asks.
    """

    def __init__(
        self, thinker: Thinker, mailbox: Mailbox, trace: Trace, delay: float, period: float, words_every: float | None
    ) -> None:
        self._thinker = thinker
        self._mailbox = mailbox
        self._trace = trace
        self._delay = delay
        self._period = period
        self._words_every = words_every
        self._flight: _Flight | None = None
        self._looks = Looks(max(period, delay))
        self._spoke: tuple[int, float] | None = None

    def advance(self, now: float, images: Images, instruction: str, instruction_id: int, wanted: bool) -> None:
        """Deliver what has arrived by `now`, then look at `images` (captured now) if due. wanted: S1 replans now."""
        self._deliver(now)
        if self._flight is not None or not self._looks.due(now, instruction_id):
            return
        if not self._delay and not self._period and not wanted:
            return
        thought, ms = timed(lambda seen: self._thinker.think(seen, instruction, now, instruction_id), images)
        self._trace.s2_ms.append(ms)
        if self._wants_words(now, instruction_id):
            # A second call: words are for the onlooker and must change neither the latents nor the latency.
            text = self._thinker.think(images, instruction, now, instruction_id, words=True).text or ""
            thought = replace(thought, text=text)
            self._spoke = (instruction_id, now)
            self._trace.words.append(Words(now, text))
        self._flight = _Flight(thought, now + self._delay)
        self._looks.note(now, instruction_id)
        self._deliver(now)

    def _deliver(self, now: float) -> None:
        if self._flight is not None and reached(now, self._flight.arrives):
            self._mailbox.put(self._flight.thought)
            self._flight = None

    def _wants_words(self, now: float, instruction_id: int) -> bool:
        if self._words_every is None:
            return False
        if self._spoke is None or self._spoke[0] != instruction_id:
            return True
        return reached(now, self._spoke[1] + self._words_every)
