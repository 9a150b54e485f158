"""What S1's side of a loop decides, on any clock: to hold or to act, and a chunk that joins what is committed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vla.robots.base import Observation
from vla.runtime.clock import EPSILON
from vla.runtime.s2_worker import Thinker
from vla.runtime.stitcher import Action, Chunk, Stitcher
from vla.runtime.telemetry import Trace
from vla.runtime.timed import Images, timed
from vla.spec import RobotSpec

if TYPE_CHECKING:  # loads torch, which a process that only watches has no use for
    from vla.s2.thought import Thought

Waiting = Literal["no thought", "old thought"]


class Policy(Thinker, Protocol):
    """What a loop drives: `vla.tandem.TandemPolicy`, or anything else that thinks and acts.

    One that looks at several control steps has `frames`, their number, and `act` takes the observations of those before
    as one more argument: the oldest first, and fewer where there were none.
    """

    @property
    def spec(self) -> RobotSpec: ...

    @property
    def config(self) -> Any:
        """Has `replan_steps`: control steps between two chunks."""
        ...

    def act(
        self,
        images: Images,
        state: NDArray[np.float32],
        thought: Thought | None,
        now: float,
        prefix: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """A chunk (H, A) in robot units, row 0 for the control step of this observation; prefix (P, A) is committed."""
        ...


class Pilot:
    """warn, stop: thoughts older than this, in seconds, are counted; for older ones than `stop` it waits (None: never).

    rest: stands for the last action (A,) sent before there is any. use_thoughts: False never waits for S2. past: what
    was seen in the control steps before, as far back as the policy looks.
    """

    def __init__(
        self,
        policy: Policy,
        spec: RobotSpec,
        rest: Action,
        trace: Trace,
        warn: float,
        stop: float | None,
        use_thoughts: bool = True,
    ) -> None:
        self._policy, self._trace = policy, trace
        self._warn, self._stop, self._use_thoughts = warn, stop, use_thoughts
        self.stitcher = Stitcher(spec.hold_action, rest)
        self.replan_steps = int(policy.config.replan_steps)
        self.past: deque[Observation] = deque(maxlen=getattr(policy, "frames", 1) - 1)

    def remember(self, observation: Observation) -> None:
        """A control step is over: to be called for each."""
        if self.past.maxlen:  # where pictures are drawn on demand, later is too late
            images = {name: np.array(image) for name, image in observation.images.items()}
            self.past.append(replace(observation, images=images))

    def waits(self, age: float | None) -> Waiting | None:
        """Why it must hold, if it must. age: seconds since S2 looked; None if nothing answers the instruction yet."""
        if age is None:
            return "no thought" if self._use_thoughts else None
        return "old thought" if self._stop is not None and age > self._stop + EPSILON else None

    def plan(self, step: float, now: float, observation: Observation, thought: Thought | None, delay: int) -> Chunk:
        """A chunk for the control step at which `observation` was captured, taking over `delay` steps later.

        It is still to be committed to the stitcher: who asked knows when it really takes over. now: seconds, on the
        clock of the thought's stamp.
        """
        actions = self.act(observation, thought, now, self.stitcher.prefix(step, delay), tuple(self.past))
        if thought is not None:
            self._trace.warnings += thought.age(now) > self._warn + EPSILON
        return Chunk(capture=step, effective=step + delay, actions=actions)

    def act(
        self,
        observation: Observation,
        thought: Thought | None,
        now: float,
        prefix: NDArray[np.float32],
        past: Sequence[Observation] = (),
    ) -> Any:
        act: Any = self._policy.act
        given = (observation.state, thought, now, prefix, *([past] if past else ()))
        actions, ms = timed(lambda seen: act(seen, *given), observation.images)
        self._trace.s1_ms.append(ms)
        if thought is not None:
            self._trace.s2_age_s.append(thought.age(now))
        return actions


def rest_action(spec: RobotSpec, state: NDArray[np.float32]) -> Action:
    """The action (A,) that asks for what is already so: measured joints and gripper, no delta."""
    action = np.zeros(spec.action_size, np.float32)
    for name, place in spec.action_slices.items():
        if name in spec.state_slices and not (spec.action.is_relative and name != "gripper"):
            action[place] = state[spec.state_slices[name]]
    return action
