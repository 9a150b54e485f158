"""Episodes into a LeRobot v3 dataset, through LeRobot."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av.logging
import datasets
import numpy as np
from lerobot.datasets import LeRobotDataset, dataset_writer
from lerobot.utils.constants import DEFAULT_FEATURES
from numpy.typing import NDArray

from vla.data.episode import UNKNOWN_PIXEL, Episode, Frame
from vla.data.video import RECORDING, EpisodeVideoEncoder
from vla.spec import RobotSpec, dimension_names

OF_LEROBOT = frozenset(DEFAULT_FEATURES)
"""Columns that LeRobot fills itself."""


class EpisodeRecorder:
    """Writes whole episodes into a dataset at `root`, a new one or one of the same robot; `close` makes it readable.

    Timestamps are frame_index / fps, as LeRobot demands. Columns beside observations and action: subtask, progress,
    target_pixel, goal_pixel, next.success, disturbed, executed; not so without `labels`, for episodes that others
    recorded; and `extra`, in LeRobot's terms, whose values are in `Frame.extra`.
    """

    def __init__(
        self,
        root: Path,
        spec: RobotSpec,
        name: str = "vla/recording",
        labels: bool = True,
        extra: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        quieten()
        self._spec, self._labels = spec, labels
        how: dict[str, Any] = {"rgb_encoder": RECORDING, "encoder_threads": 1, "streaming_encoding": True}
        if root.exists():
            self._dataset = _Recording.resume(name, root=root, **how)
        else:
            columns = features(spec, labels) | dict(extra or {})
            fps = spec.fps
            self._dataset = _Recording.create(name, fps, columns, root=root, robot_type=spec.name, **how)
        spec.save(self._dataset.root / "meta" / "robot_spec.yaml")

    def write(self, episode: Episode) -> None:
        """Append an episode of at least one frame; nothing of it is there if this is interrupted."""
        self.write_frames(episode.task, episode.frames)

    def write_frames(self, task: str, frames: Iterable[Frame]) -> int:
        """As `write`, for frames that need not be in memory all at once; returns how many they were."""
        count = 0
        for frame in frames:
            self._dataset.add_frame(self._row(frame) | {"task": task})
            count += 1
        with _no_embedding():
            self._dataset.save_episode(parallel_encoding=False)
        return count

    def close(self) -> None:
        self._dataset.finalize()

    def _row(self, frame: Frame) -> dict[str, Any]:
        row: dict[str, Any] = {camera.key: frame.images[camera.name] for camera in self._spec.cameras}
        row["observation.state"] = np.asarray(frame.state, np.float32)
        row["action"] = np.asarray(frame.action, np.float32)
        row |= frame.extra
        if not self._labels:
            return row
        return row | {
            "subtask": frame.subtask,
            "progress": np.array([frame.progress], np.float32),
            "target_pixel": _pixel(frame.target_pixel),
            "goal_pixel": _pixel(frame.goal_pixel),
            "next.success": np.array([frame.success]),
            "disturbed": np.array([frame.disturbed]),
            "executed": row["action"] if frame.executed is None else np.asarray(frame.executed, np.float32),
        }


class _Recording(LeRobotDataset):
    """LeRobot's dataset with our video encoder."""

    @staticmethod
    def _build_streaming_encoder(fps: int, *_: Any) -> EpisodeVideoEncoder:
        return EpisodeVideoEncoder(fps)


@contextmanager
def _no_embedding() -> Iterator[None]:
    """Keep LeRobot from searching every row for image bytes to embed: a third of its time, and ours are videos."""
    embed = dataset_writer.embed_images
    dataset_writer.embed_images = lambda dataset: dataset
    try:
        yield
    finally:
        dataset_writer.embed_images = embed


def features(spec: RobotSpec, labels: bool = True) -> dict[str, dict[str, Any]]:
    """The columns of a recording of this robot, in LeRobot's terms."""
    pixel = {"dtype": "float32", "shape": (2,), "names": ["u", "v"]}
    columns: dict[str, dict[str, Any]] = {
        **{
            camera.key: {
                "dtype": "video",
                "shape": (camera.height, camera.width, 3),
                "names": ["height", "width", "channels"],
            }
            for camera in spec.cameras
        },
        "observation.state": {"dtype": "float32", "shape": (spec.state_size,), "names": dimension_names(spec.state)},
        "action": {"dtype": "float32", "shape": (spec.action_size,), "names": dimension_names(spec.action.fields)},
    }
    if not labels:
        return columns
    return columns | {
        "subtask": {"dtype": "string", "shape": (1,), "names": None},
        "progress": {"dtype": "float32", "shape": (1,), "names": None},
        "target_pixel": pixel,
        "goal_pixel": pixel,
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
        "disturbed": {"dtype": "bool", "shape": (1,), "names": None},
        "executed": columns["action"],
    }


def _pixel(point: tuple[float, float]) -> NDArray[np.float32]:
    pixel = np.asarray(point, np.float32)
    return pixel if np.isfinite(pixel).all() else np.array(UNKNOWN_PIXEL, np.float32)


def quieten() -> None:
    """Silence what LeRobot brings along: a bar per episode and per file is noise beside ours."""
    datasets.disable_progress_bars()
    datasets.disable_caching()
    logging.getLogger("lerobot").setLevel(logging.ERROR)
    av.logging.set_libav_level(av.logging.ERROR)  # LeRobot hands logging back to FFmpeg, which is talkative
