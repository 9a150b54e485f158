"""A policy on a simulator's clock, for the loops that `ThreadedPilot` serves in real time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vla.robots.base import Observation
from vla.runtime.mailbox import Mailbox
from vla.runtime.pilot import Pilot, Policy, rest_action
from vla.runtime.s2_worker import SlowWorker
from vla.runtime.stitcher import Action
from vla.runtime.telemetry import Trace
from vla.runtime.threaded_pilot import LONGEST_AGE_S, PilotStatus
from vla.spec import RobotSpec

if TYPE_CHECKING:
    from vla.s2.thought import Thought


class SteppedPilot:
    """As `ThreadedPilot`, but S2 and S1 compute within `next`, while the simulator waits: neither takes any time.

    S2 looks whenever S1 plans. What the policy raises, `next` does. Raises UserError as `ThreadedPilot`.
    """

    def __init__(self, policy: Policy, spec: RobotSpec) -> None:
        policy.spec.check_robot(spec)
        self._policy, self._spec = policy, spec
        self._mailbox = Mailbox()
        self._worker = SlowWorker(policy, self._mailbox, Trace(), 0.0, 0.0, None)
        self._pilot: Pilot | None = None
        self._instruction, self._instruction_id = "", 0
        self._replan_at = 0
        self._age: float | None = None

    @property
    def engaged(self) -> bool:
        return self._pilot is not None

    @property
    def thought(self) -> Thought | None:
        return self._mailbox.newest(self._instruction_id)

    def instruct(self, text: str) -> None:
        self._instruction, self._instruction_id = text, self._instruction_id + 1
        self._begin_anew()

    def engage(self, observation: Observation) -> None:
        rest = rest_action(self._spec, observation.state)
        self._pilot = Pilot(self._policy, self._spec, rest, Trace(), LONGEST_AGE_S, LONGEST_AGE_S)
        self._begin_anew()

    def release(self) -> None:
        self._pilot = None

    def next(self, observation: Observation, stamp: float, step: int) -> Action | None:
        """The action for control step `step`, of what was seen at `stamp` (s, simulated); None: hold."""
        import torch

        pilot = self._pilot
        if pilot is None:
            return None
        due = step >= self._replan_at
        with torch.inference_mode():
            self._worker.advance(stamp, observation.images, self._instruction, self._instruction_id, due)
            thought = self.thought
            self._age = None if thought is None else thought.age(stamp)
            waits = pilot.waits(self._age)
            if due and not waits:
                pilot.stitcher.commit(pilot.plan(step, stamp, observation, thought, 0))
                self._replan_at = step + pilot.replan_steps
        pilot.remember(observation)
        return None if waits else pilot.stitcher.next(step)

    def status(self) -> PilotStatus:
        return PilotStatus(age_s=self._age if self.engaged else None)

    def _begin_anew(self) -> None:
        self._replan_at = 0
        if self._pilot is not None:
            self._pilot.stitcher.drop()
