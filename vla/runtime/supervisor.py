"""Starts the processes of a run, watches over them, and brings back what dies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from vla.errors import UserError
from vla.processes import SPAWN, Maker, Part, Running
from vla.robots.senses import SenseMemory
from vla.runtime import fast_loop, slow_loop
from vla.runtime.command_loop import Settings
from vla.runtime.command_process import CommandProcess
from vla.runtime.command_state import CommandState
from vla.runtime.fast_loop import FastMemory, FastSettings
from vla.runtime.reports import REPORT_BYTES, FastReport, Instruction, SlowReport, report_memory, report_slot
from vla.runtime.shared_mailbox import THOUGHT_BYTES
from vla.runtime.slow_loop import SlowMemory
from vla.shared_slot import Slot, slot_memory
from vla.spec import RobotSpec

MOST_DEATHS = 3
"""In a row, of a part that does nothing in between: what it dies of does not pass."""
SETTLED = 1000
"""After so many samples (5 s) a command process has not died of its start."""


COMMANDS = "the command process"


class LiveRobot(Protocol):
    """A robot that senses into shared memory and is commanded from another process (`vla.robots.realtime_sim`)."""

    def start(self, timeout: float) -> None: ...

    def close(self) -> None: ...

    @property
    def spec(self) -> RobotSpec: ...

    @property
    def servos(self) -> Maker: ...

    @property
    def sense_memory(self) -> SenseMemory: ...


@dataclass(frozen=True)
class RunSettings:
    """s2_period: seconds between two looks of S2. hung: a part that gives no sign of life for so long (s) is started
    again; None: never. ready: how long (s) a part may take to start.
    """

    s2_period: float = 0.1
    ready: float = 300.0
    hung: float | None = 10.0
    fast: FastSettings = field(default_factory=FastSettings)
    command: Settings = field(default_factory=Settings)


@dataclass(frozen=True)
class Watch:
    """What came since the last look. events: what the supervisor noticed and did, in words."""

    slow: tuple[SlowReport, ...]
    fast: tuple[FastReport, ...]
    command: CommandState
    events: tuple[str, ...]


class Supervisor(Running):
    """Runs a policy on a robot, which it starts and closes too; used as a context manager.

    policy: called without arguments in each of the two processes, gives the `Policy`.
    """

    def __init__(self, policy: Maker, robot: LiveRobot, how: RunSettings | None = None) -> None:
        self._how = how or RunSettings()
        how, self._robot = self._how, robot
        self.commands = CommandProcess(robot.spec, robot.servos, how.command)
        instruction = slot_memory(SPAWN, REPORT_BYTES)
        thoughts = slot_memory(SPAWN, THOUGHT_BYTES)
        slow_reports, fast_reports = report_memory(), report_memory()
        slow = SlowMemory(instruction, thoughts, slow_reports)
        fast = FastMemory(instruction, thoughts, self.commands.chunk_memory, fast_reports)
        self.slow = Part("s2", slow_loop.run, policy, robot.spec, robot.sense_memory, slow, how.s2_period)
        self.fast = Part("s1", fast_loop.run, policy, robot.spec, robot.sense_memory, fast, how.fast)
        self._instruction = Slot(instruction)
        self._slow_reports, self._fast_reports = report_slot(slow_reports), report_slot(fast_reports)
        self._asked = Instruction(-1, "")
        self._heard: dict[str, float] = {}
        self._away: set[str] = set()
        self._deaths = dict.fromkeys((self.slow.name, self.fast.name, COMMANDS), 0)

    def start(self) -> None:
        """Returns when every part runs. Raises UserError if one cannot."""
        timeout = self._how.ready
        self._start(self.slow)
        self._start(self.fast)
        self._wait_for_models(timeout)
        self._robot.start(timeout)
        self.commands.start(timeout)

    def instruct(self, text: str) -> None:
        """Ask for something (else): the robot holds until S2 has a thought about it."""
        self._asked = Instruction(self._asked.id + 1, text)
        self._instruction.put(self._asked.pack())

    def watch(self) -> Watch:
        """What was reported, after starting again whatever has died or hung. Call it a few times a second.

        The run goes on meanwhile: without S2 on the thought there is, until it is too old; without S1 on the chunk
        there is; without the command process the robot must brake by itself. Raises UserError if a part fails for a
        reason that starting it again does not mend.
        """
        watch = self._read()
        self._check(watch)
        events = [*self._servers(self.slow, watch.slow), *self._servers(self.fast, watch.fast)]
        events += [told for part in (self.slow, self.fast) if (told := self._revive(part))]
        if not self.commands.alive:
            self._count_death(COMMANDS, f"{COMMANDS} died")
            self.commands.start(self._how.ready)
            events.append(f"{COMMANDS} died: started again")
        return replace(watch, events=tuple(events))

    def close(self) -> None:
        """The command process brings the robot to rest and ends, S1 and S2 end, then the robot. May be called twice."""
        parts = (self.fast, self.slow)
        for part in parts:
            part.tell_to_end()
        self.commands.close()
        for part in parts:
            part.close()
        self._robot.close()

    def _wait_for_models(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        missing = {self.slow.name, self.fast.name}
        while missing:
            watch = self._read()
            self._check(watch)
            missing -= {name for name, told in ((self.slow.name, watch.slow), (self.fast.name, watch.fast)) if told}
            for part in (self.slow, self.fast):
                if not part.alive:
                    raise UserError(f"{part.name} ended with exit code {part.exitcode} before it was ready")
            if time.monotonic() > deadline:
                raise UserError(f"{', '.join(sorted(missing))} not ready within {timeout:g} s")
            time.sleep(0.01)

    def _start(self, part: Part) -> None:
        part.start()
        # It loads a model before it gives a sign of life, which may take longer than it may hang later.
        self._heard[part.name] = time.monotonic() + self._how.ready

    def _servers(self, part: Part, reports: Sequence[SlowReport | FastReport]) -> Iterator[str]:
        """When a policy's server went away, and when it was back."""
        for report in reports:
            if report.away and part.name not in self._away:
                self._away.add(part.name)
                yield f"{part.name}: {report.away}: it is asked again"
            elif report.ms is not None and part.name in self._away:
                self._away.remove(part.name)
                yield f"{part.name}: the policy server answers again"

    def _revive(self, part: Part) -> str | None:
        hung = self._how.hung is not None and time.monotonic() - self._heard[part.name] > self._how.hung
        if part.alive and not hung:
            return None
        died = f"{part.name} {'hung' if part.alive else 'died'}"
        part.kill()
        self._count_death(part.name, died)
        self._start(part)
        return f"{died}: started again"

    def _count_death(self, name: str, died: str) -> None:
        self._deaths[name] += 1
        if self._deaths[name] >= MOST_DEATHS:
            raise UserError(f"{died} {MOST_DEATHS} times without having done anything: to start it again is no use")

    def _read(self) -> Watch:
        slow = _unpacked(self._slow_reports, SlowReport.unpack)
        fast = _unpacked(self._fast_reports, FastReport.unpack)
        for part, reports in ((self.slow, slow), (self.fast, fast)):
            if reports:
                self._heard[part.name] = time.monotonic()
            if any(report.ms is not None for report in reports):
                self._deaths[part.name] = 0
        command = self.commands.state()
        if command.tick >= SETTLED:
            self._deaths[COMMANDS] = 0
        return Watch(slow, fast, command, ())

    def _check(self, watch: Watch) -> None:
        for part, reports in ((self.slow, watch.slow), (self.fast, watch.fast)):
            for report in reports:
                if report.error:
                    raise UserError(f"{part.name}: {report.error}")
        if watch.command.phase == "failed":
            raise UserError(f"{COMMANDS} failed: {watch.command.error}")


def _unpacked[T](slot: Slot, unpack: Callable[[bytes], T]) -> tuple[T, ...]:
    return tuple(unpack(message) for message in slot.take_all())
