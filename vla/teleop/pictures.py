"""Pictures for people: what the cameras see, in a simulation larger and smoother than the robot gets it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla.robots.base import Robot
from vla.robots.gym_sim import GymRobot, make_robot
from vla.teleop.moment import Moment


@dataclass(frozen=True)
class Picture:
    """image: (H, W, 3) uint8 RGB; captured: seconds on `time.monotonic`; number: grows with every new one."""

    image: NDArray[np.uint8]
    captured: float
    number: int


class Pictures(Protocol):
    def offer(self, robot: Robot, moment: Moment) -> None:
        """Called by the control loop after each step."""
        ...

    def newest(self) -> Mapping[str, Picture]:
        """By camera; empty before there are any."""
        ...

    def close(self) -> None: ...


class CameraPictures:
    """The robot's own images."""

    def __init__(self) -> None:
        self._newest: Mapping[str, Picture] = {}

    def offer(self, robot: Robot, moment: Moment) -> None:
        seen, newest = moment.observation, dict(self._newest)
        for name, image in seen.images.items():
            if name not in newest or newest[name].image is not image:
                newest[name] = Picture(image, moment.captured - seen.ages.get(name, 0.0), moment.step)
        self._newest = newest

    def newest(self) -> Mapping[str, Picture]:
        return self._newest

    def close(self) -> None:
        pass


class TwinPictures(CameraPictures):
    """Large pictures from a twin of the simulation, drawn in a thread of its own, at most half of the time.

    env, split: of the robot, which has the same scenes then. Should drawing fail, that is said once, and people see the
    robot's own images.
    """

    def __init__(self, env: str, split: str = "all") -> None:
        super().__init__()
        self._env, self._split = env, split
        self._changed = threading.Condition()
        self._asked: tuple[int, float, Any] | None = None
        self._ended = self._failed = False
        self._thread = threading.Thread(target=self._draw, name="vla-pictures", daemon=True)

    def offer(self, robot: Robot, moment: Moment) -> None:
        if self._failed:
            super().offer(robot, moment)
        elif isinstance(robot, GymRobot):
            if self._thread.ident is None:  # not before the robot has its own OpenGL context: two at once may fail
                self._thread.start()
            with self._changed:
                self._asked = moment.seed, moment.captured, robot.snapshot()
                self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _draw(self) -> None:
        try:
            with make_robot(self._env, split=self._split) as twin:
                self._follow(twin)
        except Exception as error:
            print(f"vla: no large pictures ({error}): these are the robot's own images", file=sys.stderr)
            self._failed = True

    def _follow(self, twin: GymRobot) -> None:
        shown, number = None, 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._asked is not None)
                asked, self._asked = self._asked, None
            if self._ended or asked is None:
                return
            begin = time.monotonic()
            seed, captured, snapshot = asked
            if seed != shown:
                twin.reset(seed)
                shown = seed
            number += 1
            self._newest = {
                name: Picture(twin.picture(name, snapshot), captured, number) for name in twin.spec.camera_names
            }
            time.sleep(time.monotonic() - begin)
