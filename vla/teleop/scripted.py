"""An operator made of a simulator's own expert: takes over when the policy is slow, and so records corrections.

It does what a person does, by the same way: it takes hold, moves as the hand's speed allows, lets go, keeps the take.
Nobody has to wait for it, so all of it is on the simulator's clock.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.data.attempts import expert_maker
from vla.data.live import LiveRecorder
from vla.data.workers import progress_bar
from vla.errors import UserError
from vla.robots.base import Observation
from vla.robots.gym_sim import GymRobot, find_environment, make_environment
from vla.runtime.clock import SimClock
from vla.runtime.loop import Policy
from vla.runtime.stepped_pilot import SteppedPilot
from vla.teleop.console import ending_signals
from vla.teleop.control import LiveLoop, SessionSettings
from vla.teleop.devices import Reading, Wish
from vla.teleop.mapping import Scaling
from vla.teleop.moment import Moment

PATIENCE_S = (1.0, 5.0)
"""So long, drawn anew for every take, the policy may try alone."""
LONGEST_S = 40.0
DISK_S = 600.0


class PracticeRobot(GymRobot):
    """A simulated robot in the scenes that `vla collect` records: training instructions only, the looks in turn.

    clock: moves with it, whatever is reset. Raises UserError for environments of another kind.
    """

    def __init__(self, env: str) -> None:
        if env not in ("tabletop", "tabletop-suite"):
            raise UserError(f"teleop: --device scripted knows tabletop and tabletop-suite, not {env}")
        entry = find_environment(env)
        super().__init__(entry, **entry.practice)
        self._looks, self._envs = entry.looks, list[Any]()
        self.make_expert = expert_maker(entry)
        self.clock = SimClock(self.spec.rate_hz)

    def connect(self) -> None:
        if not self._envs:
            self._envs = [make_environment(self._environment, **self._kwargs, **look) for look in self._looks]
            self._env = self._envs[0]

    def close(self) -> None:
        for env in self._envs:
            env.close()
        self._envs, self._env = [], None

    def reset(self, seed: int | None = None) -> Observation:
        self._env = self._envs[(seed or 0) % len(self._envs)]
        return super().reset(seed)

    def command(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        sent = super().command(action)
        self.clock.tick()
        return sent


class ScriptedOperator:
    """takes: to be kept, one a scene. has_policy: without one the expert drives from the start.

    Its hand neither trembles nor slips, as in `vla collect --steady`: what is recorded is what the hand did.
    """

    name = "scripted"

    def __init__(self, robot: PracticeRobot, takes: int, has_policy: bool, scaling: Scaling) -> None:
        self._robot, self._takes, self._has_policy = robot, takes, has_policy
        self._engage: list[Wish] = [("policy", True)] if has_policy else []
        self._full = np.repeat([scaling.linear, scaling.angular], 3)
        self._rng = np.random.default_rng()
        self._expert: Any = None
        self._seed: int | None = None
        self._began = 0
        self._patience = 0.0
        self._judged, self._corrects = False, False
        self._gripper = 1.0

    def read(self) -> Reading:
        """Before each step: so the expert sees the scene as it is."""
        now = self._robot.clock.now
        if not self._corrects:
            self._expert = None
            return Reading(np.zeros(6), self._gripper, False, now)
        takes_hold = self._expert is None
        if takes_hold:
            self._expert = self._robot.make_expert(self._robot.environment, self._rng)
        action = self._expert.act()
        opening = self._gripper if takes_hold else float(action[6])  # then it opens or closes, and is followed
        move = action[:6].astype(float) * self._robot.spec.rate_hz / self._full
        return Reading(np.clip(move, -1, 1), opening, True, now)

    def poll(self, moment: Moment) -> list[Wish]:
        """What it asks for after a control step; a stop of the gate's own it releases, and all goes on."""
        self._gripper = moment.gripper
        stopped = moment.stopped is not None
        asked: list[Wish] = [("release", None), *self._engage] if stopped and moment.at_rest else []
        if moment.seed != self._seed:
            return asked + self._begin(moment)
        seconds = (moment.step - self._began) / self._robot.spec.rate_hz
        self._corrects = not (self._judged or stopped) and (not self._has_policy or seconds > self._patience)
        if self._judged or not (moment.success or seconds > LONGEST_S):
            return asked
        self._judged, self._corrects = True, False
        return [*asked, ("success" if moment.success else "fail", None)]

    def close(self) -> None:
        pass

    def _begin(self, moment: Moment) -> list[Wish]:
        """The scene's seed decides all that is left to chance."""
        if self._seed is not None:
            self._takes -= 1
        if self._takes <= 0:
            return [("end", None)]
        self._seed, self._began, self._judged = moment.seed, moment.step, False
        self._rng = np.random.default_rng(moment.seed)
        if self._has_policy:  # without one the expert is that of `vla collect`
            self._patience = float(self._rng.uniform(*PATIENCE_S))
        self._corrects = not self._has_policy
        return [("start", None), *self._engage]


def operate(env: str, takes: int, recorder: LiveRecorder, policy: Policy | None, settings: SessionSettings) -> None:
    """Record so many takes as fast as can be computed, or until Ctrl-C or SIGTERM. The hand is followed at once: its
    motion is smooth already, as a key's is not.

    Raises UserError if the recorder can record no more.
    """
    with PracticeRobot(env) as robot, ending_signals() as (ending, _), progress_bar("takes", takes) as advance:
        settings = replace(settings, scaling=replace(settings.scaling, settle_s=0.0))
        operator = ScriptedOperator(robot, takes, policy is not None, settings.scaling)
        pilot = SteppedPilot(policy, robot.spec) if policy is not None else None
        loop = LiveLoop(robot, operator, recorder, pilot, settings, lambda: robot.clock.now)
        kept = 0
        while not ending.is_set():
            moment = loop.step(ending=False)
            recorder.settle(DISK_S)  # the simulator can wait for the disk: no step is dropped
            status = recorder.status()
            if status.trouble:
                raise UserError(status.trouble)
            advance(len(status.takes) - kept)
            kept = len(status.takes)
            for what, value in operator.poll(moment):
                if what == "end":
                    ending.set()
                else:
                    loop.wish(what, value)
    labels = [one.take for one in recorder.status().takes]
    told = f"{kept} takes, {sum(not take.success for take in labels)} of them failures"
    if policy:
        drove, frames = sum(take.interventions for take in labels), sum(take.frames for take in labels)
        told += f"; the expert drove {drove} of {frames} steps"
    print(told)
