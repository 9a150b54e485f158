"""The beginnings of episodes of a simulated robot, as a training cache: seconds of simulation, real pictures."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vla.data.cache import CachedEpisode
from vla.robots.gym_sim import GymRobot

EPISODES = 20
"""The fewest that leave one to measure on."""


def write_beginnings(folder: Path, robot: GymRobot, make_expert: Callable[..., Any], length: int) -> None:
    """make_expert: (environment, generator) to something with `act()`."""
    frames: dict[str, list[Any]] = {}
    episodes = []
    for number in range(EPISODES):
        robot.reset(number)
        expert = make_expert(robot.environment, np.random.default_rng(number))
        for _ in range(length):
            seen, action = robot.observe(), np.asarray(expert.act(), np.float32)
            target, goal = robot.marks() or ((np.nan, np.nan), (np.nan, np.nan))
            marks = {"target_pixel": target, "goal_pixel": goal}
            for name, value in {**seen.images, "state": seen.state, "action": action, **marks}.items():
                frames.setdefault(name, []).append(np.asarray(value))
            robot.command(action)
        episodes.append(CachedEpisode(number * length, (number + 1) * length, robot.instruction))
    folder.mkdir()
    cameras = robot.spec.camera_names
    for name, values in frames.items():
        np.save(folder / f"{name}.npy", np.stack(values).astype(np.uint8 if name in cameras else np.float32))
    np.save(folder / "episode.npy", np.repeat(np.arange(EPISODES, dtype=np.int32), length))
    np.save(folder / "progress.npy", np.zeros(EPISODES * length, np.float32))
    robot.spec.save(folder / "robot_spec.yaml")
    (folder / "stats.json").write_text("{}")
    about = {"version": 1, "fps": float(robot.spec.rate_hz), "cameras": cameras, "source": {}}
    (folder / "meta.json").write_text(json.dumps({**about, "episodes": [asdict(one) for one in episodes]}))
