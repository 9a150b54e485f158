"""`vla sim --dds`: a simulated robot as a ROS 2 robot, on the topics of its spec.

In real time it keeps its rate whatever comes, and holds when commands stop: a dead commander stops the arm. In lockstep
its time waits for commands, one message on every command topic a step, so that an episode is the same on any machine.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.errors import UserError
from vla.messages import SECOND, BadMessage, read_values, write_message, write_picture
from vla.processes import interruption_noted
from vla.robots.base import Observation, SimulatedRobot
from vla.robots.dds_bus import Bus
from vla.robots.gym_sim import make_robot
from vla.robots.message_bus import MessageBus, Publisher
from vla.robots.outcome import Outcome
from vla.ros_types import MessageTypes
from vla.spec import RobotSpec
from vla.streams import Source, by_topic, extra, sources

HOLD_AFTER = 0.1
"""Seconds without a command after which the arm holds: two periods of the tabletop, and what MoveIt Servo waits."""
REPEAT = 0.25
"""Seconds after which lockstep says again where it is, for who came late or lost a picture."""


class SimNode:
    """`robot` is connected; `spec`: its spec, which says the topics. Messages of `bus` are not yet running.

    beside: called with every observation that is published, and its time (ns).
    """

    def __init__(
        self,
        bus: MessageBus,
        robot: SimulatedRobot,
        spec: RobotSpec,
        lockstep: bool = False,
        beside: Callable[[Observation, int], None] = lambda observation, now: None,
    ) -> None:
        self._bus, self._robot, self._spec, self._lockstep = bus, robot, spec, lockstep
        self._parts = {kind: sources(spec, kind) for kind in ("camera", "state", "action")}
        self._senses: list[tuple[Publisher, list[Source]]] = [
            (bus.advertise(topic, parts[0].stream.type, parts[0].stream.qos), parts)
            for topic, parts in by_topic((*self._parts["camera"], *self._parts["state"])).items()
        ]
        self._said = {
            name: bus.advertise(stream.topic, stream.type, stream.qos)
            for name in ("outcome", "clock")
            if (stream := extra(spec, name))
        }
        self._heard: dict[str, deque[tuple[Any, float]]] = {}
        self._requests: deque[tuple[str, Any]] = deque(maxlen=10)
        for topic, parts in by_topic(self._parts["action"]).items():
            queue = self._heard.setdefault(topic, deque(maxlen=10))
            bus.subscribe(topic, parts[0].stream.type, parts[0].stream.qos, _into(queue))
        for name in ("reset", "instruction"):
            if stream := extra(spec, name):
                bus.subscribe(stream.topic, stream.type, stream.qos, self._note(name))
        self._beside = beside
        self._outcome = Outcome(lockstep=lockstep)
        self._given = ""  # the scene's own instruction
        self._action: NDArray[np.float32] = np.zeros(spec.action_size, np.float32)
        self._complained: set[str] = set()

    def run(self, seed: int, stopped: Callable[[], bool]) -> None:
        """Begin the episode of `seed`, then do as topics say until `stopped()`."""
        self._begin(seed)
        self._bus.start()
        due = time.monotonic()
        while not stopped():
            self._answer()
            if self._lockstep:
                if self._bus.wait(lambda: bool(self._requests) or all(self._heard.values()), REPEAT):
                    if not self._requests:
                        self._step(self._next_commands())
                else:
                    self._publish()
            else:
                self._step(self._fresh_commands())
                due = max(due + 1 / self._spec.rate_hz, time.monotonic() - 1 / self._spec.rate_hz)
                time.sleep(max(0.0, due - time.monotonic()))

    def begin_again(self) -> None:
        """Begin the same scene again, as soon as it can be. From any thread."""
        seed = self._outcome.seed
        self._requests.append(("again", 0 if seed is None else seed))
        self._bus.wake()

    @property
    def outcome(self) -> Outcome:
        return self._outcome

    @property
    def _now(self) -> int:
        return self._outcome.began + round(self._outcome.steps * SECOND / self._spec.rate_hz)

    def _begin(self, seed: int) -> None:
        # The clock goes on from episode to episode, with a gap, so that no stamp is that of two moments.
        began = self._now + 10 * SECOND if self._outcome.episode >= 0 else SECOND
        observation = self._robot.reset(seed)
        for queue in self._heard.values():
            queue.clear()
        self._given = self._robot.instruction
        self._outcome = Outcome(
            episode=self._outcome.episode + 1,
            seed=seed,
            instruction=self._given,
            family=self._robot.family,
            max_steps=self._robot.max_steps,
            began=began,
            lockstep=self._lockstep,
        )
        self._action = _rest(self._spec, observation.state)
        self._publish()

    def _step(self, action: NDArray[np.float32]) -> None:
        was_finished = self._outcome.finished
        self._action = action
        self._robot.command(action)
        self._outcome = replace(
            self._outcome,
            steps=self._outcome.steps + 1,
            success=self._robot.success,
            finished=self._robot.finished,
            instruction=self._robot.instruction,
        )
        self._publish()
        if self._outcome.finished and not was_finished:
            what = "success" if self._outcome.success else "no success"
            print(f"seed {self._outcome.seed}: {what} after {self._outcome.steps} steps: {self._outcome.instruction}")
            sys.stdout.flush()

    def _answer(self) -> None:
        while self._requests:
            name, value = self._requests.popleft()
            if name == "again":
                self._begin(int(value))
            elif name == "reset" and value < 0:
                self._complain(f"a seed is not negative, got {value}: no reset")
            elif name == "reset":
                # Asked twice for the same, because the answer was slow: the first is enough.
                now = self._outcome
                if (value, 0, self._given) != (now.seed, now.steps, now.instruction) or now.refused:
                    self._begin(int(value))
                else:
                    self._outcome = replace(self._outcome, episode=self._outcome.episode + 1)
                    self._publish()
            else:
                self._instruct(value)

    def _instruct(self, text: str) -> None:
        try:
            if text != self._robot.instruction:
                self._robot.set_instruction(text)
            robot, outcome = self._robot, replace(self._outcome, instruction=text, refused=None)
            self._outcome = replace(outcome, success=robot.success, finished=robot.finished)
        except UserError as error:
            self._outcome = replace(self._outcome, refused=(text, str(error)))
        self._publish()

    def _next_commands(self) -> NDArray[np.float32]:
        """One message of every command topic."""
        with self._bus.changed:
            messages = {topic: queue.popleft()[0] for topic, queue in self._heard.items()}
        return self._read(messages)

    def _fresh_commands(self) -> NDArray[np.float32]:
        """The newest message of every command topic that is not too old."""
        now = time.monotonic()
        with self._bus.changed:
            newest = {topic: queue[-1] for topic, queue in self._heard.items() if queue}
        return self._read({topic: message for topic, (message, at) in newest.items() if now - at <= HOLD_AFTER})

    def _read(self, messages: dict[str, Any]) -> NDArray[np.float32]:
        """The action they make up; where there is none, or none that can be used, the robot holds."""
        action = self._spec.hold_action(self._action)
        for part in self._parts["action"]:
            message = messages.get(part.stream.topic)
            if message is None:
                continue
            try:
                action[part.place] = read_values(message, part.stream, part.fields)
            except BadMessage as bad:
                self._complain(f"a message on {part.stream.topic} {bad}: holding")
                return self._spec.hold_action(self._action)
        return action

    def _publish(self) -> None:
        if "outcome" in self._said:
            publisher = self._said["outcome"]
            publisher.publish(self._bus.types.new(publisher.type, data=self._outcome.to_json()))
        observation, now, types = self._robot.observe(), self._now, self._bus.types
        for publisher, parts in self._senses:
            if camera := parts[0].camera:
                message = write_picture(types, parts[0].stream, camera, observation.images[camera.name], now)
            else:
                state = observation.state.astype(np.float64)
                values = [(part.stream, part.fields, state[part.place]) for part in parts]
                message = write_message(types, values, now, 1 / self._spec.rate_hz)
            publisher.publish(message)
        self._beside(observation, now)
        if "clock" in self._said:
            message = types.new(self._said["clock"].type)
            message.clock.sec, message.clock.nanosec = divmod(now, SECOND)
            self._said["clock"].publish(message)

    def _note(self, name: str) -> Callable[[Any, int], None]:
        return lambda message, _: self._requests.append((name, message.data))

    def _complain(self, text: str) -> None:
        if text not in self._complained:
            self._complained.add(text)
            print(f"vla: {text}", file=sys.stderr, flush=True)


def _into(queue: deque[tuple[Any, float]]) -> Callable[[Any, int], None]:
    return lambda message, _: queue.append((message, time.monotonic()))


def _rest(spec: RobotSpec, state: NDArray[np.float32]) -> NDArray[np.float32]:
    """The action that asks for what is already so."""
    action = np.zeros(spec.action_size, np.float32)
    for name, place in spec.action_slices.items():
        if name in spec.state_slices and (name == "gripper" or not spec.action.is_relative):
            action[place] = state[spec.state_slices[name]]
    return action


def simulate(
    env: str, spec: RobotSpec, seed: int = 0, task: str = "all", domain: int | None = None, lockstep: bool = False
) -> None:
    """Offer the environment `env` over DDS until interrupted. UserError if its spec and `spec` are not the same
    robot."""
    with make_robot(env, task) as robot:
        if differing := spec.diff(robot.spec, env):
            raise UserError(f"sim: this spec is not of the robot in {env}: {'; '.join(differing)}")
        bus = Bus(MessageTypes(), domain)
        try:
            node = SimNode(bus, robot, spec, lockstep)
            pace = "lockstep: time waits for commands" if lockstep else f"real time, {spec.rate_hz:g} Hz"
            print(f"{env} on DDS domain {bus.domain}, {pace}; Ctrl-C stops it", flush=True)
            for stream in dict.fromkeys((stream.topic, stream.type) for stream in spec.ros):
                print("  {:35} {}".format(*stream), flush=True)
            with interruption_noted() as interrupted:
                node.run(seed, interrupted)
        finally:
            bus.close()
