"""The cameras of a simulated body, as devices of their own: rendered elsewhere, and late as real images are."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from numpy.typing import NDArray

from vla.processes import Ending, sleep_until
from vla.robots.gym_sim import make_robot
from vla.robots.senses import CameraWriter
from vla.robots.sim_wires import BodySettings, Wires, World
from vla.shared_slot import Slot


def run(world: World, wires: Wires, how: BodySettings, parent: int) -> None:
    """The process's main function. The same seed builds the body's scene here; its snapshots say how things stand."""
    ending = Ending(parent)
    with make_robot(world.env, world.task, world.split) as robot:
        robot.reset(world.seed)
        writers = {name: CameraWriter(wires.senses, name) for name in robot.spec.camera_names}
        snapshots = Slot(wires.snapshots)
        rng = np.random.default_rng(world.seed)
        on_the_way: deque[tuple[float, float, dict[str, NDArray[np.uint8]]]] = deque()
        due = time.monotonic()
        while not ending:
            sleep_until(min([due, *(one[0] for one in on_the_way)]))
            while on_the_way and on_the_way[0][0] <= time.monotonic():
                _, stamp, images = on_the_way.popleft()
                for name, image in images.items():
                    writers[name].put(stamp, image)
            if time.monotonic() < due:
                continue
            message = snapshots.take()
            if message is not None:
                snapshot = np.frombuffer(message).copy()
                stamp, images = float(snapshot[0]), dict(robot.images_at(snapshot[1:]))
                arrives = stamp + how.camera_latency_s + rng.uniform(0, how.camera_jitter_s)
                on_the_way.append((max([arrives, *(one[0] for one in on_the_way)]), stamp, images))
            due = max(due + 1 / how.camera_hz, time.monotonic())
