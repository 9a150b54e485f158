"""A ROS 2 robot as a body, over DDS, with no ROS installed: what its spec's `ros` section declares is read and
commanded."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.errors import UserError
from vla.messages import SECOND, write_message
from vla.robots.base import Observation, SensesLost
from vla.robots.dds_bus import Bus
from vla.robots.message_bus import MessageBus, Publisher
from vla.robots.outcome import Outcome
from vla.ros_types import MessageTypes
from vla.spec import RobotSpec
from vla.streams import Snapshot, Source, Streams, by_topic, extra, sources

ASK_AGAIN = 2.0
"""Seconds after which a reset is asked for again."""
REPEATS = 3
"""So often a robot in lockstep says that it waits for a command that was sent before it is sent again."""


class Interrupted(Exception):
    """Somebody called `DdsRobot.interrupt`."""


class DdsRobot:
    """The `Robot` protocol over DDS. Its time is the /clock of the spec, or the wall's.

    `command` returns when the next control period begins, so whoever calls it in a loop keeps the robot's rate.
    patience: seconds to wait for what does not come; meanwhile the robot is told to hold. blind: the same for streams
    that stop under way (None: patience). `events` says what went wrong on the way and was overcome; `losses` counts how
    often the robot was out of touch, and may have been moved. domain: None takes ROS_DOMAIN_ID. bus: makes another
    transport than DDS.
    """

    def __init__(
        self,
        spec: RobotSpec,
        domain: int | None = None,
        patience: float = 5.0,
        blind: float | None = None,
        bus: Callable[[MessageTypes], MessageBus] | None = None,
    ) -> None:
        self.spec = spec
        self.patience = patience
        self._blind = blind
        self.events: list[str] = []
        self.late = self.losses = 0
        self.outcome = Outcome()
        self._make_bus = bus or (lambda types: Bus(types, domain))
        self._parts = {kind: sources(spec, kind) for kind in ("camera", "state", "action")}
        self._clock = extra(spec, "clock")
        self._period = round(SECOND / spec.rate_hz)
        self._types = MessageTypes()
        self._bus: MessageBus | None = None
        self._interrupted = threading.Event()
        self._streams = Streams(())
        self._commands: list[tuple[Publisher, list[Source]]] = []
        self._requests: dict[str, Publisher] = {}
        self._last: NDArray[np.float32] | None = None
        self._began = self._tick = 0
        self._jumps = self._episode = self._heard = self._first = 0

    def connect(self) -> None:
        """Join the domain and wait for every stream. UserError naming those that do not come, and why if DDS knows."""
        if self._bus is not None:
            return
        self._streams = Streams((*self._parts["camera"], *self._parts["state"]), self._clock)
        self._bus = bus = self._make_bus(self._types)
        for topic, stream in self._streams.topics.items():
            bus.subscribe(topic, stream.type, stream.qos, self._receive(topic))
        if outcome := extra(self.spec, "outcome"):
            bus.subscribe(outcome.topic, outcome.type, outcome.qos, self._hear)
        for name in ("reset", "instruction"):
            if stream_ := extra(self.spec, name):
                self._requests[name] = bus.advertise(stream_.topic, stream_.type, stream_.qos)
        self._commands = [
            (bus.advertise(topic, parts[0].stream.type, parts[0].stream.qos, depth=1), parts)
            for topic, parts in by_topic(self._parts["action"]).items()
        ]
        bus.start()
        try:
            self._await(self._fresh, self._what_is_missing)
            if outcome:
                self._await(lambda: self.outcome.episode >= 0, lambda: [f"nothing has come on {outcome.topic}"])
            self._await(lambda: not self._deaf(), lambda: [f"nobody listens on {topic}" for topic in self._deaf()])
        except (UserError, Interrupted):
            self.close()
            raise
        self._anchor(self._now())

    def interrupt(self) -> None:
        """Have whatever waits for the robot, now or later, raise `Interrupted`, until `resume`. From any thread."""
        self._interrupted.set()
        if (bus := self._bus) is not None:
            bus.wake()

    def resume(self) -> None:
        self._interrupted.clear()

    def reset(self, seed: int | None = None) -> Observation:
        """Begin an episode: a simulated robot is given the seed, a real one stays as it is.

        What an earlier episode commanded is forgotten: the robot may have been moved since.
        """
        self._last = None
        if seed is not None and self.has_scenes:
            self._ask_to_reset(seed)
            self._jumps = self._streams.jumps
            self._await(lambda: self._reached(self.outcome.began), self._what_is_missing)
            self._anchor(self.outcome.began)
        else:
            self._anchor(self._now())
        return self.observe()

    def _ask_to_reset(self, seed: int) -> None:
        publisher, before = self._requests["reset"], self.outcome.episode
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            publisher.publish(self._types.new(publisher.type, data=seed))
            if self._wait(
                lambda: self.outcome.seed == seed and self.outcome.episode != before, min(ASK_AGAIN, self.patience)
            ):
                return
        raise UserError(f"DDS robot: {publisher.topic} is not answered")

    def observe(self) -> Observation:
        """The newest of every stream as of now. A stale one is waited for, holding; SensesLost if it does not come."""
        while (snapshot := self._snapshot()).problems:
            self.hold()
            self._lose()
            begin = time.monotonic()
            named = _named(snapshot.problems)
            self._keep_up(self._fresh, self._what_is_missing)
            self.events.append(f"waited {time.monotonic() - begin:.1f} s: {named}")
            self._anchor(self._now(), self._began)
        cameras = {part.name: snapshot.samples[part.name].value for part in self._parts["camera"]}
        state = snapshot.vector(self._parts["state"])
        ages = {name: snapshot.age(name) for name in cameras}
        ages["state"] = max(snapshot.age(part.name) for part in self._parts["state"])
        return Observation(cameras, state, (snapshot.tick - self._began) / SECOND, ages)  # type: ignore[arg-type]

    def command(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """Publish one action (A,) and wait for the next control period.

        ValueError if it is not finite, SensesLost if the robot's clock stands still.
        """
        sent = np.asarray(action, np.float32)
        if sent.shape != (self.spec.action_size,) or not np.isfinite(sent).all():
            raise ValueError(f"an action has {self.spec.action_size} finite entries, got {sent}")
        self._publish(sent)
        self._next_period()
        return sent

    def hold(self) -> None:
        """Tell the robot to stay where this episode last told it to be, unless it may have been moved since; then, and
        in lockstep, it stays of itself."""
        if self._last is not None and not self.outcome.lockstep:
            self._publish(self.spec.hold_action(self._last))

    def close(self) -> None:
        """Leave the domain, with the arm at rest: in delta and velocity modes that has to be said."""
        if self._bus is None:
            return
        if self.spec.action.is_relative:
            self.hold()
        bus, self._bus = self._bus, None
        self._commands.clear()
        self._requests.clear()
        bus.close()

    def __enter__(self) -> DdsRobot:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_scenes(self) -> bool:
        """It is a simulated robot: it takes seeds, and says what has become of the episode."""
        return bool(extra(self.spec, "reset") and extra(self.spec, "outcome"))

    @property
    def instruction(self) -> str:
        return self.outcome.instruction

    @property
    def success(self) -> bool:
        return self.outcome.success

    @property
    def finished(self) -> bool:
        return self.outcome.finished

    def set_instruction(self, text: str) -> None:
        """Say what is wanted; UserError if a simulated scene cannot judge it."""
        if "instruction" not in self._requests:
            return
        self._requests["instruction"].publish(self._types.new(self._requests["instruction"].type, data=text))
        if extra(self.spec, "outcome"):
            self._await(
                lambda: text in (self.outcome.instruction, self.outcome.refused and self.outcome.refused[0]),
                lambda: [f"{self._requests['instruction'].topic} is not answered"],
            )
            if self.outcome.instruction != text and self.outcome.refused:
                raise UserError(self.outcome.refused[1])

    def take_events(self) -> list[str]:
        """What `events` says since this was last called."""
        events, self.events = self.events, []
        return events

    def stream_ages(self) -> dict[str, float]:
        """Stream -> seconds since its newest usable sample was captured; infinite where there is none."""
        with self._connected().changed:
            now = self._now()
            seen = self._streams.at(now)
        names = [part.name for part in (*self._parts["camera"], *self._parts["state"])]
        return {name: seen.age(name) if name in seen.samples else math.inf for name in names}

    def complaints(self) -> list[str]:
        """What keeps messages from coming and commands from arriving: QoS, types, messages that are none."""
        bus = self._connected()
        with bus.changed:
            return bus.complaints()

    # Time and waiting.

    def _now(self) -> int:
        return (self._streams.now or 0) if self._clock else self._connected().now()

    def _anchor(self, tick: int, began: int | None = None) -> None:
        self._tick, self._began = tick, tick if began is None else began
        self._jumps, self._episode = self._streams.jumps, self.outcome.began
        self._first = self.outcome.steps - round((tick - self._began) * self.spec.rate_hz / SECOND)

    def _snapshot(self) -> Snapshot:
        with self._connected().changed:
            return self._streams.at(self._tick if self.outcome.lockstep else self._now())

    def _fresh(self) -> bool:
        return (not self._clock or self._streams.now is not None) and not self._streams.at(self._now()).problems

    def _reached(self, tick: int) -> bool:
        """Whether the clock and every stream have come to `tick`."""
        return self._now() >= tick and self._streams.reached(tick)

    def _next_period(self) -> None:
        wanted = self._tick + self._period
        if self.outcome.lockstep:
            # The simulator counts steps from the beginning, without the rounding of a period.
            step = round((wanted - self._began) * self.spec.rate_hz / SECOND)
            wanted = self._began + round(step * SECOND / self.spec.rate_hz)
            self._heard = 0
            self._keep_up(
                lambda: self._stepped(wanted, self._first + step) or self._jumped(),
                self._what_is_missing,
            )
        elif self._clock:
            still = f"{self._clock_topic} stands still"
            self._keep_up(lambda: self._now() >= wanted or self._jumped(), lambda: [still])
        else:
            self._wait(self._jumped, min(max(0, wanted - self._now()), self._period) / SECOND)
        if self._jumped():
            self.events.append("the robot's clock went back, or its episode ended: its node has begun anew")
            self._lose()
            self._anchor(self._now())
        elif self._now() - wanted > self._period and not self.outcome.lockstep:
            self.late += 1
            self._tick = self._now()
        else:
            self._tick = wanted

    @property
    def _clock_topic(self) -> str:
        return self._clock.topic if self._clock else "the clock"

    def _stepped(self, wanted: int, step: int) -> bool:
        """Whether a robot in lockstep has done control step `step`; if it did not get the command, it gets it again."""
        if self._reached(wanted) and self.outcome.steps >= step:
            return True
        if self._heard >= REPEATS and self.outcome.steps < step and self._last is not None:
            self.events.append(f"control step {step} was asked for again")
            self._publish(self._last)
            self._heard = 0
        return False

    def _jumped(self) -> bool:
        """Whether the robot has begun anew without having been asked."""
        return self._streams.jumps != self._jumps or self.outcome.began != self._episode

    def _wait(self, ready: Callable[[], bool], seconds: float) -> bool:
        """As the bus waits. Raises `Interrupted`."""
        done = self._connected().wait(lambda: self._interrupted.is_set() or ready(), seconds)
        if self._interrupted.is_set():
            raise Interrupted
        return done

    def _await(self, ready: Callable[[], bool], missing: Callable[[], list[str]]) -> None:
        if not self._wait(ready, self.patience):
            raise UserError(self._told(missing))

    def _keep_up(self, ready: Callable[[], bool], missing: Callable[[], list[str]]) -> None:
        if not self._wait(ready, self.patience if self._blind is None else self._blind):
            self._lose()
            raise SensesLost(self._told(missing))

    def _lose(self) -> None:
        """Somebody may move the robot now."""
        self.losses += 1
        if not self.spec.action.is_relative:
            self._last = None  # to stay there would be a motion

    def _told(self, missing: Callable[[], list[str]]) -> str:
        bus = self._connected()
        with bus.changed:
            lines = [*missing(), *bus.complaints()]
        return f"DDS robot {self.spec.name}, domain {bus.domain}: {'; '.join(dict.fromkeys(lines))}"

    def _what_is_missing(self) -> list[str]:
        if self._clock and self._streams.now is None:
            return [f"nothing has come on {self._clock.topic}"]
        problems = self._streams.at(self._now()).problems
        return [_named(problems)] if problems else [f"{self._clock_topic} stands still"]

    def _deaf(self) -> list[str]:
        return [publisher.topic for publisher, _ in self._commands if not publisher.readers]

    # Messages.

    def _receive(self, topic: str) -> Callable[[Any, int], None]:
        return lambda message, received: self._streams.add(topic, message, received)

    def _hear(self, message: Any, _: int) -> None:
        try:
            self.outcome = Outcome.from_json(message.data)
            self._heard += 1
        except ValueError as error:
            self._connected().faults["outcome"] = str(error)

    def _publish(self, action: NDArray[np.float32]) -> None:
        self._connected()
        for publisher, parts in self._commands:
            publisher.publish(self._message(parts, action))
        self._last = action

    def _message(self, parts: list[Source], action: NDArray[np.float32]) -> Any:
        values = [(part.stream, part.fields, action[part.place].astype(np.float64)) for part in parts]
        return write_message(self._types, values, self._now(), 1 / self.spec.rate_hz)

    def _connected(self) -> MessageBus:
        if self._bus is None:
            raise RuntimeError("connect the robot first")
        return self._bus


def _named(problems: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {problem}" for name, problem in problems.items())
