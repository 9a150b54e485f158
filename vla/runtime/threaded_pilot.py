"""A policy in real time: S2 and S1 each in a thread of its own, so that the control loop never waits for a model."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vla.robots.base import Observation
from vla.robots.stuck_camera import StuckCameras
from vla.runtime.mailbox import Mailbox
from vla.runtime.pilot import Pilot, Policy, rest_action
from vla.runtime.s2_worker import Looks
from vla.runtime.stitcher import Action, Chunk
from vla.runtime.telemetry import Trace
from vla.spec import RobotSpec

if TYPE_CHECKING:
    from vla.s2.thought import Thought

THINK_EVERY_S = 0.1
"""S2 looks no more often than this: the control loop needs the processor too."""
WORDS_EVERY_S = 1.0
LONGEST_AGE_S = 2.0
"""Policies are trained up to this age of a thought."""
STUCK_S = 0.5
"""A camera that has shown the same for so long, to the last bit, while the robot moved, is not acted on."""
_NAP_S = 0.005
_NOBODYS = -1
"""A turn that never comes: nothing is done with a chunk for it."""


@dataclass(frozen=True)
class PilotStatus:
    """words: the newest S2 said. age_s: of the thought in use. failed: why the policy does not go on, "" if it does."""

    words: str = ""
    age_s: float | None = None
    s1_ms: float = 0.0
    s2_ms: float = 0.0
    failed: str = ""


@dataclass(frozen=True)
class _Look:
    """What was seen at a control step, and in those before. turn: which hand-over it belongs to."""

    observation: Observation
    stamp: float
    step: int
    turn: int
    past: tuple[Observation, ...] = ()


class ThreadedPilot:
    """The decisions are `vla.runtime.pilot`'s, as on simulated time.

    `engage` hands the robot to the policy, `next` gives its action for a control step, `release` takes it back.

    S1 is told what the robot does until its chunk can come, judged by the last one, but never more than half a chunk.

    Those, and `status`, are for the control loop's thread. stop_s: seconds; older thoughts are not acted on (None: all
    are). words_s: seconds between S2's words, None for none. Raises UserError, with the differing entries, if the
    policy was trained for another robot.
    """

    def __init__(
        self,
        policy: Policy,
        spec: RobotSpec,
        stop_s: float | None = LONGEST_AGE_S,
        words_s: float | None = WORDS_EVERY_S,
    ) -> None:
        import torch

        policy.spec.check_robot(spec)
        self._inference_mode = torch.inference_mode
        self._policy, self._spec = policy, spec
        self._stop_s, self._words_s = stop_s, words_s
        self._period = 1 / spec.rate_hz
        self._mailbox = Mailbox()
        self._changed = threading.Condition()
        self._pilot: Pilot | None = None
        self._instruction, self._instruction_id = "", 0
        self._look: _Look | None = None
        self._asked: tuple[_Look, np.ndarray] | None = None
        self._turn, self._on, self._ended = 0, False, False
        self._replan_at = self._longest_delay = 0
        self._failed, self._words, self._stuck = "", "", StuckCameras(spec)
        self._s1_s, self._s2_s = self._period, 0.0
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=name, daemon=True)
            for name, work in (("vla-s2", self._think), ("vla-s1", self._act))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def engaged(self) -> bool:
        return self._on

    def instruct(self, text: str) -> None:
        with self._changed:
            self._instruction, self._instruction_id = text, self._instruction_id + 1
            self._words = ""
            self._drop()

    def engage(self, observation: Observation) -> None:
        """The policy begins anew from here: nothing planned before is carried out."""
        with self._changed:
            rest = rest_action(self._spec, observation.state)
            self._pilot = Pilot(self._policy, self._spec, rest, Trace(), LONGEST_AGE_S, self._stop_s)
            self._failed, self._stuck = "", StuckCameras(self._spec)
            self._on = True
            self._drop()
            if not self._longest_delay:  # the first call of a model pays for what the others do not
                nothing = np.zeros((0, self._spec.action_size), np.float32)
                self._asked = _Look(observation, observation.stamp, 0, _NOBODYS), nothing
                self._changed.notify_all()

    def release(self) -> None:
        with self._changed:
            self._on = False
            self._drop()

    def next(self, observation: Observation, stamp: float, step: int) -> Action | None:
        """The action for control step `step`, of what was seen at `stamp` (`time.monotonic`); None: hold."""
        with self._changed:
            pilot = self._pilot
            if not self._on or self._failed or pilot is None:
                return None
            stuck = self._stuck.since(observation)
            if stuck and observation.stamp - stuck[1] > STUCK_S:
                self._failed = f"camera {stuck[0]} has shown one image for {STUCK_S:g} s although the robot moved"
                return None
            self._look = _Look(observation, stamp, step, self._turn, tuple(pilot.past))
            pilot.remember(observation)
            thought = self._mailbox.newest(self._instruction_id)
            if pilot.waits(None if thought is None else thought.age(stamp)):
                pilot.stitcher.drop()
                self._changed.notify_all()
                return None
            if step >= self._replan_at and self._asked is None:
                delay = min(math.ceil(self._s1_s / self._period), self._longest_delay)
                self._asked = self._look, pilot.stitcher.prefix(step, delay)
                self._replan_at = step + max(pilot.replan_steps, delay)
            self._changed.notify_all()
            action = pilot.stitcher.next(step)
            # Before its first action nothing is wanted: a "stay here" would be the command whose jump the gate checks.
            return action if pilot.stitcher.begun else None

    def status(self) -> PilotStatus:
        thought = self.thought
        age = None if thought is None or not self._on else max(0.0, time.monotonic() - thought.stamp)
        return PilotStatus(self._words, age, 1e3 * self._s1_s, 1e3 * self._s2_s, self._failed)

    @property
    def thought(self) -> Thought | None:
        """The newest about what is asked."""
        return self._mailbox.newest(self._instruction_id)

    def close(self) -> None:
        with self._changed:
            self._on, self._ended = False, True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _drop(self) -> None:
        self._turn += 1
        self._look = self._asked = None
        self._replan_at = 0
        if self._pilot is not None:
            self._pilot.stitcher.drop()

    def _guard(self, work: Callable[[], None]) -> None:
        with self._inference_mode():
            while not self._ended:
                try:
                    work()
                except Exception as error:  # the policy's trouble is not the robot's: it holds, and this is said
                    with self._changed:
                        self._failed = f"{type(error).__name__}: {error}"
                        self._look = self._asked = None

    def _think(self) -> None:
        looks, speaks = Looks(THINK_EVERY_S), Looks(self._words_s or 0.0)
        while not self._ended:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._look is not None)
                look, self._look = self._look, None
                text, number = self._instruction, self._instruction_id
            if look is None:
                continue
            begin = time.monotonic()
            looks.note(begin, number)
            thought = self._policy.think(look.observation.images, text, look.stamp, number)
            self._s2_s = time.monotonic() - begin
            self._mailbox.put(thought)
            if self._words_s is not None and speaks.due(begin, number):
                speaks.note(begin, number)
                said = self._policy.think(look.observation.images, text, look.stamp, number, words=True).text
                if number == self._instruction_id:
                    self._words = said or ""
            while not (self._ended or looks.due(time.monotonic(), self._instruction_id)):
                time.sleep(_NAP_S)

    def _act(self) -> None:
        while not self._ended:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._asked is not None)
                asked, number, pilot = self._asked, self._instruction_id, self._pilot
            if asked is None or pilot is None:
                continue
            look, prefix = asked
            begin = time.monotonic()
            actions = pilot.act(look.observation, self._mailbox.newest(number), look.stamp, prefix, look.past)
            took = time.monotonic() - begin
            with self._changed:
                self._s1_s = took if self._longest_delay else self._period
                self._longest_delay = len(actions) // 2
                if self._asked is asked:
                    self._asked = None
                    if look.turn == self._turn:
                        # As late as it came: rows for steps that have passed are skipped.
                        pilot.stitcher.commit(Chunk(look.step, look.step + len(prefix), actions))
