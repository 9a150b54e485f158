"""From a stream of logged messages to the frames a live robot would have seen: same code, same alignment.

Messages go into `vla.streams` in the order they were logged. A tick comes every control period, on the clock the live
robot would follow; what a frame sees is what had arrived by then. Its action is the command that came between its tick
and the next one.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.data.episode import Frame
from vla.data.rosbag2.bag import Message
from vla.messages import SECOND, BadMessage, header_stamp
from vla.spec import RobotSpec
from vla.streams import Snapshot, Source, Streams, extra, sources

STAMP = "stamp_ns."


@dataclass
class Report:
    """What was left out, and how far apart things were.

    stale: stream -> ticks without a frame because of it, and in what words the last time. skew: stream -> age in
    seconds at each frame. delay: stream -> seconds from header stamp to arrival, for bags on the wall's clock.
    """

    stale: Counter[str] = field(default_factory=Counter)
    words: dict[str, str] = field(default_factory=dict)
    skew: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    delay: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    jumps: int = 0

    def lines(self) -> list[str]:
        lines = [f"clock: went back {self.jumps} times"] if self.jumps else []
        for name, ages in self.skew.items():
            text = f"{name}: {1e3 * np.median(ages):.1f} ms old at a tick, at most {1e3 * max(ages):.1f}"
            if delays := self.delay.get(name):
                text += f"; arrives {1e3 * np.median(delays):.1f} ms after its stamp, at most {1e3 * max(delays):.1f}"
            lines.append(text)
        lines += [f"{name}: no frame at {count} ticks: {self.words[name]}" for name, count in self.stale.items()]
        return lines


@dataclass(frozen=True)
class Step:
    """A frame, the number of its episode, and what is done in that."""

    episode: int
    task: str
    frame: Frame


class Framer:
    """`add` every message; what it completes comes out. `end` gives what is left.

    A new instruction, a new episode of a simulated robot, a clock that goes back and a gap in what is needed each
    begin a new episode. task: what is done, if the bag does not say. report: of earlier bags, to go on with.
    """

    def __init__(self, spec: RobotSpec, task: str = "", report: Report | None = None) -> None:
        self.spec = spec
        self.report = report or Report()
        self._clock = extra(spec, "clock")
        self._senses = {kind: sources(spec, kind) for kind in ("camera", "state")}
        self._acts = sources(spec, "action")
        self._streams = Streams((*self._senses["camera"], *self._senses["state"]), self._clock)
        self._actions = Streams(self._acts, self._clock)
        self._told = {stream.topic: name for name in ("instruction", "outcome") if (stream := extra(spec, name))}
        self._task, self._number = task, None
        self._episode, self._begun, self._jumps = 0, False, 0
        self._pending: Snapshot | None = None
        self._last = np.zeros(spec.action_size, np.float32)
        self._first: int | None = None
        self._count = 0

    @property
    def topics(self) -> set[str]:
        return {*self._streams.topics, *self._actions.topics, *self._told}

    def add(self, topic: str, time: int, message: Any) -> list[Step]:
        """time: when it was logged, ns."""
        done: list[Step] = []
        if not self._clock:
            done += self._tick_until(time - 1)
        if topic in self._told:
            return done + self._tell(topic, message)
        self._streams.add(topic, message, time)
        self._actions.add(topic, message, time)
        self._measure(topic, message, time)
        if self._streams.jumps != self._jumps:
            self.report.jumps += self._streams.jumps - self._jumps
            self._jumps = self._streams.jumps
            return done + self._close()
        now = self._streams.now
        if now is None or (self._clock and topic != self._clock.topic):
            return done
        if self._first is None and not self._streams.at(now).problems:
            self._first, self._count = now, 0
        return done + (self._tick_until(now) if self._clock else [])

    def end(self) -> list[Step]:
        if self._first is not None and not self._clock:
            assert self._streams.now is not None
            return self._tick_until(self._streams.now) + self._close()
        return self._close()

    def _tick_until(self, now: int) -> list[Step]:
        done: list[Step] = []
        while self._first is not None and self._tick(self._count) <= now:
            tick = self._tick(self._count)
            done += self._settle(tick)
            snapshot = self._streams.at(tick)
            if snapshot.problems:
                self.report.stale.update(snapshot.problems.keys())
                self.report.words.update(snapshot.problems)
                done += self._close()
            else:
                self._pending = snapshot
                self._count += 1
        return done

    def _tick(self, count: int) -> int:
        assert self._first is not None
        return self._first + round(count * SECOND / self.spec.rate_hz)

    def _settle(self, end: int) -> list[Step]:
        """The pending frame, with the action that came before `end`."""
        seen, self._pending = self._pending, None
        if seen is None:
            return []
        action = self.spec.hold_action(self._last if self._begun else self._rest(seen))
        given = self._actions.at(end - 1)
        stamps = {}
        for part in self._acts:
            sample = given.samples.get(part.name)
            stamps[part.name] = sample.stamp if sample else 0
            if sample and (sample.stamp >= seen.tick or not self._moves(part)):
                action[part.place] = sample.value
        missing = {name: problem for name, problem in given.problems.items() if not self.spec.action.is_relative}
        if missing and not self._begun:  # in absolute modes no action means "nothing was said"
            self.report.stale.update(missing.keys())
            self.report.words.update(missing)
            return []
        self._last, self._begun = action, True
        return [Step(self._episode, self._task, self._frame(seen, action, stamps))]

    def _rest(self, seen: Snapshot) -> NDArray[np.float32]:
        """What nobody has commanded yet: the gripper as it is measured."""
        action = np.zeros(self.spec.action_size, np.float32)
        if self.spec.action.gripper and "gripper" in self.spec.state_slices:
            state = seen.vector(self._senses["state"])
            action[self.spec.action_slices["gripper"]] = state[self.spec.state_slices["gripper"]]
        return action

    def _moves(self, part: Source) -> bool:
        """Whether the part's command is over when its period is: a delta or a velocity."""
        return self.spec.action.is_relative and part.fields[-1].name != "gripper"

    def _frame(self, seen: Snapshot, action: NDArray[np.float32], stamps: dict[str, int]) -> Frame:
        for name in seen.samples:
            self.report.skew[name].append(seen.age(name))
        stamps = {"tick": seen.tick, **{name: sample.stamp for name, sample in seen.samples.items()}, **stamps}
        return Frame(
            images={part.name: seen.samples[part.name].value for part in self._senses["camera"]},  # type: ignore[misc]
            state=seen.vector(self._senses["state"]),
            action=action,
            extra={STAMP + name: np.array([stamp], np.int64) for name, stamp in stamps.items()},
        )

    def _tell(self, topic: str, message: Any) -> list[Step]:
        if self._told[topic] == "instruction":
            return self._begin(message.data)
        try:
            outcome = json.loads(message.data)
            number, words = outcome["episode"], outcome["instruction"]
        except (ValueError, KeyError, TypeError):
            return []
        changed = (number, words) != (self._number, self._task)
        self._number = number
        return self._begin(words) if changed else []

    def _begin(self, task: str) -> list[Step]:
        done = self._close()
        self._task = task
        self._streams.forget()
        return done

    def _close(self) -> list[Step]:
        done = [] if self._first is None else self._settle(self._tick(self._count))
        self._episode, self._begun = self._episode + 1, False
        self._first, self._pending = None, None
        return done

    def _measure(self, topic: str, message: Any, time: int) -> None:
        if self._clock:
            return
        for part in self._streams.parts:
            if part.stream.topic == topic and part.stream.stamp == "header":
                with suppress(BadMessage):  # which `Streams` names
                    self.report.delay[part.name].append((time - header_stamp(message)) / SECOND)


def steps(framer: Framer, messages: Iterable[Message]) -> Iterator[Step]:
    for topic, time, message in messages:
        yield from framer.add(topic, time, message)
    yield from framer.end()


def episodes(taken: Iterable[Step]) -> Iterator[tuple[str, Iterator[Frame]]]:
    """What is done in each, and its frames as they come: those of one are gone when the next is asked for."""
    for (_, task), found in groupby(taken, lambda step: (step.episode, step.task)):
        yield task, (step.frame for step in found)


def stamp_columns(spec: RobotSpec) -> dict[str, dict[str, Any]]:
    """Columns of the original stamps (ns), as LeRobot describes features; 0 where there was no message."""
    parts = [part.name for kind in ("camera", "state", "action") for part in sources(spec, kind)]
    return {STAMP + name: {"dtype": "int64", "shape": (1,), "names": None} for name in ("tick", *parts)}
