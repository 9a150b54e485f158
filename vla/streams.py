"""Which message belongs to which part of the robot, and what was known of each part at a moment: one code for live
robots and recorded bags.

Messages go in as they arrive; `at(tick)` tells, for every stream, the newest usable sample that had arrived and was
stamped no later than the tick. Nothing is looked at before its time, and nothing is made up: a stream without such a
sample, or with one that is too old, is a problem with a name. Times are whole nanoseconds.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vla.errors import UserError
from vla.messages import SECOND, BadMessage, NotMine, header_stamp, read_picture, read_values, to_ns
from vla.spec import ROS_EXTRAS, Camera, Field, RobotSpec, RosStream

Values = NDArray[np.float64]

KEPT = {"picture": 8, "vector": 256}
"""Samples kept per stream: half a second of a fast camera, or of joints at 500 Hz."""
CLOCK_SET_BACK = SECOND // 10
"""The wall's clock was set back if a message arrives so much (ns) before another did: threads mix them up by less."""


@dataclass(frozen=True)
class Source:
    """A stream with what it fills: a camera, or fields from entry `start` of the state or action vector."""

    stream: RosStream
    camera: Camera | None = None
    fields: tuple[Field, ...] = ()
    start: int = 0

    @property
    def name(self) -> str:
        return self.stream.stream

    @property
    def place(self) -> slice:
        return slice(self.start, self.start + sum(one.size for one in self.fields))


def sources(spec: RobotSpec, kind: str) -> tuple[Source, ...]:
    """The streams of one kind, "camera", "state" or "action". UserError where they do not make up the whole of it."""
    spec.check_ros()
    if kind == "camera":
        cameras = {stream.stream: stream for stream in spec.ros}
        _complete(spec, [name for name in spec.camera_names if name not in cameras])
        return tuple(Source(cameras[camera.name], camera) for camera in spec.cameras)
    fields = spec.state if kind == "state" else spec.action.fields
    slices = spec.state_slices if kind == "state" else spec.action_slices
    whole = {stream.stream: stream for stream in spec.ros}
    if kind in whole:
        return (Source(whole[kind], None, fields),)
    _complete(spec, [f"{kind}.{one.name}" for one in fields if f"{kind}.{one.name}" not in whole])
    return tuple(Source(whole[f"{kind}.{one.name}"], None, (one,), slices[one.name].start) for one in fields)


def extra(spec: RobotSpec, name: str) -> RosStream | None:
    """One of `ROS_EXTRAS`, if this robot has it."""
    assert name in ROS_EXTRAS
    return next((stream for stream in spec.ros if stream.stream == name), None)


def by_topic(parts: Sequence[Source]) -> dict[str, list[Source]]:
    """Parts that share a topic share its messages."""
    topics: dict[str, list[Source]] = {}
    for part in parts:
        topics.setdefault(part.stream.topic, []).append(part)
    return topics


@dataclass(order=True)
class Sample:
    """A message of one stream; `value` once it has been read, `fault` if it cannot be."""

    stamp: int
    received: int
    message: object = field(compare=False)
    value: NDArray | None = field(default=None, compare=False)
    fault: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Snapshot:
    """What was known at `tick`. samples: by stream, of those that have a usable and fresh one; problems: of the
    others."""

    tick: int
    samples: Mapping[str, Sample]
    problems: Mapping[str, str]

    def age(self, name: str) -> float:
        """Seconds."""
        return (self.tick - self.samples[name].stamp) / SECOND

    def vector(self, parts: Sequence[Source]) -> NDArray[np.float32]:
        """The state or action that `parts` make up."""
        values = np.concatenate([np.asarray(self.samples[part.name].value) for part in parts])
        return values.astype(np.float32)


class Streams:
    """The samples of `parts`, all of one robot. `now`: its time (ns), from its clock stream if it has one.

    `jumps` counts how often the clock went back: what was stamped later than that is forgotten.
    """

    def __init__(self, parts: Sequence[Source], clock: RosStream | None = None) -> None:
        self.parts = tuple(parts)
        self.clock = clock
        self.now: int | None = None
        self.jumps = 0
        self._by_topic = by_topic(self.parts)
        self._samples: dict[str, list[Sample]] = {part.name: [] for part in self.parts}
        self._faults: dict[str, tuple[int, str]] = {}

    @property
    def topics(self) -> dict[str, RosStream]:
        """Every topic needed, with one of the streams on it."""
        topics = {topic: parts[0].stream for topic, parts in self._by_topic.items()}
        return topics | ({self.clock.topic: self.clock} if self.clock else {})

    def add(self, topic: str, message: object, received: int) -> None:
        """A message that arrived at `received` (ns). Messages of unknown topics are ignored."""
        if self.clock and topic == self.clock.topic:
            self._advance(to_ns(message.clock))  # type: ignore[attr-defined]
        elif not self.clock and (self.now is None or not 0 <= self.now - received <= CLOCK_SET_BACK):
            self._advance(received)
        if self.now is None:
            return  # before the first word of the clock there is no time at which it could have come
        for part in self._by_topic.get(topic, ()):
            stamp = self.now
            if part.stream.stamp == "header":
                try:
                    stamp = header_stamp(message)
                except BadMessage as bad:
                    self._fault(part, self.now, str(bad))
                    continue
            kept = self._samples[part.name]
            insort(kept, Sample(stamp, received, message))
            del kept[: -KEPT["picture" if part.camera else "vector"]]

    def at(self, tick: int) -> Snapshot:
        """What is known of every stream as of `tick` (ns)."""
        samples, problems = {}, {}
        for part in self.parts:
            newest = self._newest(part, tick)
            if newest is None:
                problems[part.name] = self._explain(part, self._absent(part, tick))
            elif tick - newest.stamp > part.stream.max_age * SECOND:
                age = (tick - newest.stamp) / SECOND
                text = f"the newest on {part.stream.topic} is {age:.2f} s old, over {part.stream.max_age:g} s"
                problems[part.name] = self._explain(part, text, newest.stamp)
            else:
                samples[part.name] = newest
        return Snapshot(tick, samples, problems)

    def reached(self, tick: int) -> bool:
        """Whether every stream has a sample of `tick` or later."""
        return all(kept and kept[-1].stamp >= tick for kept in self._samples.values())

    def forget(self, after: int | None = None) -> None:
        """Drop what is stamped later than `after`; everything if None."""
        for kept in self._samples.values():
            kept[:] = [] if after is None else [sample for sample in kept if sample.stamp <= after]
        self._faults.clear()

    def _advance(self, now: int) -> None:
        if self.now is not None and now < self.now:
            self.jumps += 1
            self.forget(after=now)
        self.now = now

    def _newest(self, part: Source, tick: int) -> Sample | None:
        for sample in reversed(self._samples[part.name]):
            if sample.stamp > tick:
                continue
            if sample.value is None and sample.fault is None:
                self._read(part, sample)
            if sample.value is not None:
                return sample
        return None

    def _read(self, part: Source, sample: Sample) -> None:
        try:
            if part.camera:
                sample.value = read_picture(sample.message, part.stream, part.camera)
            else:
                sample.value = read_values(sample.message, part.stream, part.fields)
        except NotMine as other:
            sample.fault = str(other)
            if part.name not in self._faults:
                self._fault(part, sample.stamp, str(other))
        except (BadMessage, AttributeError) as bad:
            sample.fault = str(bad)
            self._fault(part, sample.stamp, str(bad))
        sample.message = None

    def _fault(self, part: Source, stamp: int, text: str) -> None:
        self._faults[part.name] = (stamp, f"a message on {part.stream.topic} {text}")

    def _absent(self, part: Source, tick: int) -> str:
        ahead = [sample.stamp - tick for sample in self._samples[part.name] if sample.stamp > tick]
        if not ahead:
            return f"nothing has come on {part.stream.topic}"
        # Two clocks that disagree; or the wall's, where the robot runs on a simulated one.
        return f"what comes on {part.stream.topic} is stamped {min(ahead) / SECOND:.2f} s ahead of the robot's time"

    def _explain(self, part: Source, text: str, since: int = -1) -> str:
        stamp, fault = self._faults.get(part.name, (-1, ""))
        return f"{text}; {fault}" if stamp > since else text


def _complete(spec: RobotSpec, missing: list[str]) -> None:
    if missing:
        raise UserError(f"robot spec: {spec.name}: ros has no stream for {', '.join(missing)}")
