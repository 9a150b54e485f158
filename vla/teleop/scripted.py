"""An operator made of a simulator's own expert: takes over when the policy is slow, and so records corrections.

It does what a person does, by the same way: it takes hold, moves as the hand's speed allows, lets go, keeps the take.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vla.data.attempts import expert_maker
from vla.errors import UserError
from vla.robots.base import Robot
from vla.robots.gym_sim import GymRobot, find_environment
from vla.teleop.devices import Reading, Wish
from vla.teleop.mapping import Scaling
from vla.teleop.moment import Moment
from vla.teleop.terminal import POLL_S

PATIENCE_S = (1.0, 5.0)
"""So long, drawn anew for every take, the policy may try alone."""
LONGEST_S = 40.0


class ScriptedOperator:
    """takes: to be kept, one a scene; the session then ends. has_policy: without one the expert drives from the start.

    `beside` gives the session a robot that this operator can see. Raises UserError for environments of another kind.
    """

    name = "scripted"
    about = "The simulator's own expert operates, and takes over when the policy is slow."
    prompt: str | None = None
    trouble = ""

    def __init__(self, env: str, takes: int, has_policy: bool, scaling: Scaling | None = None, seed: int = 0) -> None:
        if env not in ("tabletop", "tabletop-suite"):
            raise UserError(f"teleop: --device scripted knows tabletop and tabletop-suite, not {env}")
        self._make_expert = expert_maker(find_environment(env))
        self._takes, self._has_policy = takes, has_policy
        scaling = scaling or Scaling()
        self._full = np.repeat([scaling.linear, scaling.angular], 3)
        self._rng = np.random.default_rng(seed)
        self._robot: GymRobot | None = None
        self._expert: Any = None
        self._seed: int | None = None
        self._began: int | None = None
        self._patience = 0.0
        self._judged, self._corrects = False, False

    def beside(self, make: Callable[[], Robot]) -> Callable[[], Robot]:
        def made() -> Robot:
            robot = make()
            assert isinstance(robot, GymRobot)
            self._robot = robot
            return robot

        return made

    def read(self) -> Reading | None:
        """In the session's thread, before each step: so the expert sees the scene as it is."""
        now, robot = time.monotonic(), self._robot
        if robot is None or not self._corrects:
            self._expert = None
            return Reading(np.zeros(6), 1.0, False, now)
        if self._expert is None:
            self._expert = self._make_expert(robot.environment, self._rng)
        action = self._expert.act()
        move = action[:6].astype(float) * robot.spec.rate_hz / self._full
        return Reading(np.clip(move, -1, 1), float(action[6]), True, now)

    def poll(self, moment: Moment) -> list[Wish]:
        time.sleep(POLL_S)
        if moment.seed != self._seed:
            return self._begin(moment)
        assert self._robot is not None and self._began is not None
        seconds = (moment.step - self._began) / self._robot.spec.rate_hz
        self._corrects = not self._judged and (not self._has_policy or seconds > self._patience)
        if self._judged or not (moment.success or seconds > LONGEST_S):
            return []
        self._judged, self._corrects = True, False
        return [("success" if moment.success else "fail", None)]

    def close(self) -> None:
        self._robot = None

    def _begin(self, moment: Moment) -> list[Wish]:
        if self._seed is not None:
            self._takes -= 1
        if self._takes <= 0:
            return [("end", None)]
        self._seed, self._began, self._judged = moment.seed, moment.step, False
        self._patience = float(self._rng.uniform(*PATIENCE_S))
        return [("start", None), *([("policy", True)] if self._has_policy else [])]
