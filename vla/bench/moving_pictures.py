"""A dataset of moving pictures that LeRobot itself records, with its own defaults."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

CAMERAS = ("front", "wrist")
FPS = 20
STATE, ACTION = 8, 7


def record(root: Path, episodes: int, length: int, size: int, seed: int = 0, codec: str | None = "libsvtav1") -> None:
    """Write `episodes` of `length` frames from two cameras of size x size pixels.

    codec: of the video files, LeRobot's own by default; None keeps single pictures.
    """
    import av.logging
    import datasets
    from lerobot.configs import RGBEncoderConfig
    from lerobot.datasets import LeRobotDataset

    os.environ.setdefault("SVT_LOG", "1")  # errors only; SVT-AV1 takes no notice of FFmpeg's level
    logging.getLogger("lerobot").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    av.logging.set_libav_level(av.logging.ERROR)
    kind = "video" if codec else "image"
    picture = {"dtype": kind, "shape": (size, size, 3), "names": ["height", "width", "channels"]}
    features = {
        **{f"observation.images.{camera}": picture for camera in CAMERAS},
        "observation.state": {"dtype": "float32", "shape": (STATE,), "names": [f"joint{i}" for i in range(STATE)]},
        "action": {"dtype": "float32", "shape": (ACTION,), "names": [f"command{i}" for i in range(ACTION)]},
    }
    dataset = LeRobotDataset.create(
        "local/moving",
        FPS,
        features,
        root=root,
        use_videos=codec is not None,
        rgb_encoder=RGBEncoderConfig(vcodec=codec) if codec else None,
    )
    rng = np.random.default_rng(seed)
    for episode in range(episodes):
        scenes = [Scene(rng, size) for _ in CAMERAS]
        phases = rng.uniform(0, 2 * np.pi, STATE + ACTION)
        for step in range(length):
            values = np.sin(phases + 0.1 * step).astype(np.float32)
            pictures = {
                f"observation.images.{camera}": scene.at(step) for camera, scene in zip(CAMERAS, scenes, strict=True)
            }
            row = {"observation.state": values[:STATE], "action": values[STATE:], "task": f"follow ball {episode % 3}"}
            dataset.add_frame(pictures | row)
        dataset.save_episode()
    dataset.finalize()


class Scene:
    """A soft background with sensor noise, and a ball and a box that move over it."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng, self.size = rng, size
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        self.background = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        self.colours = rng.integers(0, 256, (2, 3)).tolist()
        self.phase = rng.uniform(0, 2 * np.pi, 2)

    def at(self, step: int) -> NDArray[np.uint8]:
        picture = self.background.copy()
        x, y = ((0.5 + 0.35 * np.sin(self.phase + 0.1 * step * np.array([1, 1.3]))) * self.size).astype(int).tolist()
        side = max(2, self.size // 8)
        cv2.rectangle(picture, (y, x), (y + side, x + side), self.colours[0], -1)
        cv2.circle(picture, (x, y), side, self.colours[1], -1)
        noise = self.rng.normal(0, 2, picture.shape)
        return np.clip(picture + noise, 0, 255).astype(np.uint8)
