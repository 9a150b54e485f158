"""A simulated arm that costs nothing: it is at once where it is told to be, and its pictures were made beforehand."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gym_tabletop.arm import HOME
from vla.bench.moving_pictures import Scene
from vla.robots.base import Observation
from vla.spec import RobotSpec

CAMERA_HZ = 30
MADE = 16
"""Pictures per camera, shown again and again."""


class Cameras:
    """Every camera of a spec at CAMERA_HZ, in a thread of its own as drivers are; used as a context manager."""

    def __init__(self, spec: RobotSpec) -> None:
        rng = np.random.default_rng(0)
        self._films: dict[str, list[NDArray[np.uint8]]] = {}
        for camera in spec.cameras:
            scene = Scene(rng, max(camera.height, camera.width))
            self._films[camera.name] = [scene.at(step)[: camera.height, : camera.width] for step in range(MADE)]
        self._newest = self._shot(0)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bench-cameras", daemon=True)

    def __enter__(self) -> Cameras:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def newest(self) -> tuple[int, float, Mapping[str, NDArray[np.uint8]]]:
        """The number of the newest frame, counted from 0, when it was taken (s), and its pictures."""
        return self._newest

    def _run(self) -> None:
        number, due = 0, time.monotonic()
        while not self._ending.is_set():
            due, number = due + 1 / CAMERA_HZ, number + 1
            time.sleep(max(0.0, due - time.monotonic()))
            self._newest = self._shot(number)

    def _shot(self, number: int) -> tuple[int, float, dict[str, NDArray[np.uint8]]]:
        return number, time.monotonic(), {name: film[number % MADE].copy() for name, film in self._films.items()}


class BenchArm:
    """A Robot that notes what it was commanded (`commands`, (A,) each), when (`sent`, s), and the camera frame it was
    last seen with then (`seen`).

    Its state is the last command: joints (rad) and gripper.
    """

    def __init__(self, spec: RobotSpec, cameras: Cameras) -> None:
        self.spec = spec
        self._cameras = cameras
        self._number = 0
        self._state = np.append(HOME, 1.0).astype(np.float32)
        self.sent: list[float] = []
        self.seen: list[int] = []
        self.commands: list[NDArray[np.float32]] = []

    def connect(self) -> None:
        pass

    def close(self) -> None:
        pass

    def reset(self, seed: int | None = None) -> Observation:
        return self.observe()

    def observe(self) -> Observation:
        self._number, shot, images = self._cameras.newest()
        now = time.monotonic()
        return Observation(images, self._state, now, dict.fromkeys(images, now - shot))

    def command(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        self.sent.append(time.monotonic())
        self.seen.append(self._number)
        self._state = np.array(action, np.float32)
        self.commands.append(self._state)
        return self._state
