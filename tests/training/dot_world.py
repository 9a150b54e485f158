"""A robot that is a dot: it goes to the red or to the blue square, whichever it is told to. Written as a cache."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vla.data.cache import CachedEpisode, FrameCache
from vla.spec import ActionSpec, Camera, Field, RobotSpec

SIZE = 32
SPEC = RobotSpec(
    name="dot",
    rate_hz=20.0,
    cameras=(Camera("front", SIZE, SIZE), Camera("wrist", SIZE, SIZE, mount="wrist")),
    state=(Field("ee_position", 2, "m"), Field("gripper", 1, "1")),
    action=ActionSpec("ee_delta", (Field("ee_translation", 2, "m"), Field("gripper", 1, "1")), "1 = open, 0 = closed"),
)
TASKS = ("go to the red square", "go to the blue square")
COLOURS = ((220, 30, 30), (30, 30, 220))


def write_episodes(folder: Path, episodes: int = 40, length: int = 12, seed: int = 0) -> FrameCache:
    """Positions lie in [0, 1]; a step covers at most 0.08; the gripper closes once the dot has arrived."""
    rng = np.random.default_rng(seed)
    frames, states, actions, targets, found = [], [], [], [], []
    for index in range(episodes):
        squares = np.stack([[rng.uniform(0.1, 0.4), y] for y in rng.uniform(0.1, 0.9, 2)])
        squares[1, 0] += 0.5
        wanted, position = int(rng.integers(2)), rng.uniform(0, 1, 2)
        for _ in range(length):
            step = np.clip(squares[wanted] - position, -0.08, 0.08)
            closed = np.abs(squares[wanted] - position).max() < 0.02
            frames.append(_draw(squares, position))
            states.append([*position, 1.0])
            actions.append([*step, 0.0 if closed else 1.0])
            targets.append(squares[wanted])
            position = position + step
        found.append(CachedEpisode(index * length, (index + 1) * length, TASKS[wanted]))
    folder.mkdir(parents=True)
    arrays = {
        "front": np.stack(frames),
        "wrist": np.stack(frames)[:, ::-1],
        "state": np.array(states, np.float32),
        "action": np.array(actions, np.float32),
        "episode": np.repeat(np.arange(episodes, dtype=np.int32), length),
        "progress": np.tile(np.linspace(0, 1, length, dtype=np.float32), episodes),
        "target_pixel": np.array(targets, np.float32),
        "goal_pixel": np.full((episodes * length, 2), np.nan, np.float32),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    SPEC.save(folder / "robot_spec.yaml")
    (folder / "stats.json").write_text("{}")
    meta = {"version": 1, "fps": 20.0, "cameras": SPEC.camera_names, "source": {"seed": seed}}
    (folder / "meta.json").write_text(json.dumps({**meta, "episodes": [asdict(e) for e in found]}))
    return FrameCache.open(folder)


def _draw(squares: np.ndarray, position: np.ndarray) -> np.ndarray:
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    for (u, v), colour, half in zip((*squares, position), (*COLOURS, (240, 240, 240)), (4, 4, 2), strict=True):
        x, y = round(u * SIZE), round(v * SIZE)
        image[max(0, y - half) : y + half, max(0, x - half) : x + half] = colour
    return image
