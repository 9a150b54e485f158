"""What the doctor keeps of every picture: a few numbers, so that a long dataset needs little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from vla.data.doctor.recording import Recording
from vla.data.lerobot_v3 import IMAGES

GRID = 4
HUES = {"red": 0, "yellow": 30, "blue": 120, "cyan": 90}
"""Middle of each colour on OpenCV's circle of 180. Exchanging red and blue takes the first two to the last two."""


@dataclass(frozen=True)
class Track:
    """One camera over all rows; NaN where it has no picture.

    grid: mean colour (RGB, 0-255) in GRID x GRID cells. spread: standard deviation of the grey values. change: mean
    absolute difference to the row before, NaN at the start of an episode. hues: first row of an episode ->
    share of vivid pixels of each of HUES.
    counts: file -> (frames in it, frames the episodes of it need). sizes: (height, width) of what was decoded.
    """

    name: str
    grid: Float[np.ndarray, "N G G 3"]
    spread: Float[np.ndarray, " N"]
    change: Float[np.ndarray, " N"]
    hues: dict[int, list[float]]
    counts: dict[str, tuple[int, int]]
    sizes: frozenset[tuple[int, int]]
    unreadable: dict[str, str]

    @property
    def brightness(self) -> Float[np.ndarray, " N"]:
        return self.grid.mean((1, 2, 3))


def look(recording: Recording, key: str, advance: Callable[[int], None] = lambda _: None) -> Track:
    """Decode one camera from front to back. What is missing or broken is noted, not raised."""
    rows = len(recording)
    grid = np.full((rows, GRID, GRID, 3), np.nan, np.float32)
    spread, change = np.full(rows, np.nan, np.float32), np.full(rows, np.nan, np.float32)
    hues: dict[int, list[float]] = {}
    counts: dict[str, tuple[int, int]] = {}
    sizes: set[tuple[int, int]] = set()
    unreadable: dict[str, str] = {}
    starts = {place.start for place in recording.episodes.values()}
    before: tuple[int, NDArray[np.uint8]] | None = None
    for row, image in pictures_of(recording, key, counts, unreadable):
        grid[row] = cv2.resize(image, (GRID, GRID), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        spread[row] = grey.std()
        if row in starts:
            hues[row] = _hues(image)
        sizes.add((image.shape[0], image.shape[1]))
        if before is not None and before[0] == row - 1 and row not in starts and before[1].shape == image.shape:
            change[row] = cv2.absdiff(image, before[1]).mean()
        before = row, image
        advance(1)
    name = key.removeprefix(IMAGES)
    return Track(name, grid, spread, change, hues, counts, frozenset(sizes), unreadable)


def pictures_of(
    recording: Recording,
    key: str,
    counts: dict[str, tuple[int, int]] | None = None,
    unreadable: dict[str, str] | None = None,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Row and picture (H, W, 3) RGB of all that can be read; counts and unreadable are filled as `Track` has them."""
    read = _from_videos if recording.info["features"][key]["dtype"] == "video" else _from_rows
    return read(recording, key, {} if counts is None else counts, {} if unreadable is None else unreadable)


def frames_at(recording: Recording, key: str, rows: list[int]) -> dict[int, NDArray[np.uint8]]:
    """The pictures (H, W, 3) RGB of some rows; those that cannot be had are left out."""
    wanted = set(rows)
    if recording.info["features"][key]["dtype"] == "image":
        return {row: image for row, image in _from_rows(recording, key, {}, {}, wanted) if row in wanted}
    found = {}
    for (chunk, file), places in _by_file(recording, key).items():
        times = {t: row for row, t in places.items() if row in wanted}
        if times:
            path = _video(recording, key, chunk, file)
            for index, image in _decode(path, recording.fps, {}, min(times)):
                if index in times:
                    found[times[index]] = image
                if index >= max(times):
                    break
    return found


def _hues(image: NDArray[np.uint8]) -> list[float]:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.int16)
    vivid = (hsv[..., 1] > 110) & (hsv[..., 2] > 60)
    return [float((vivid & (np.abs((hsv[..., 0] - hue + 90) % 180 - 90) < 12)).mean()) for hue in HUES.values()]


Pictures = Iterator[tuple[int, NDArray[np.uint8]]]


def _from_videos(
    recording: Recording, key: str, counts: dict[str, tuple[int, int]], unreadable: dict[str, str]
) -> Pictures:
    for (chunk, file), places in _by_file(recording, key).items():
        path = _video(recording, key, chunk, file)
        row_of = {index: row for row, index in places.items()}
        name, number = str(path.relative_to(recording.root)), 0
        for index, image in _decode(path, recording.fps, unreadable):
            number += 1
            if index in row_of:
                yield row_of[index], image
        counts[name] = number, len(places)


def _by_file(recording: Recording, key: str) -> dict[tuple[int, int], dict[int, int]]:
    """File -> row -> number of the frame in it."""
    files: dict[tuple[int, int], dict[int, int]] = {}
    for entry in recording.entries:
        if key in entry.videos and entry.number in recording.episodes:
            chunk, file, begin, _ = entry.videos[key]
            place = recording.episodes[entry.number]
            first = round(begin * recording.fps)
            files.setdefault((chunk, file), {}).update(
                {row: first + i for i, row in enumerate(range(place.start, place.stop))}
            )
    return files


def _video(recording: Recording, key: str, chunk: int, file: int) -> Path:
    return recording.root / str(recording.info["video_path"]).format(video_key=key, chunk_index=chunk, file_index=file)


def _decode(
    path: Path, fps: float, unreadable: dict[str, str], first: int = 0
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if first and stream.time_base:
                container.seek(int(first / fps / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                yield round(float(frame.time or 0) * fps), np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (OSError, av.FFmpegError, IndexError) as error:
        unreadable[str(path)] = getattr(error, "strerror", None) or str(error)


def _from_rows(
    recording: Recording,
    key: str,
    counts: dict[str, tuple[int, int]],
    unreadable: dict[str, str],
    wanted: Set[int] | None = None,
) -> Pictures:
    """wanted: groups of rows with none of these are not read."""
    import pyarrow.parquet as pq

    row = 0
    for path in sorted((recording.root / "data").glob("chunk-*/file-*.parquet")):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            following = row + file.metadata.row_group(group).num_rows
            if wanted is not None and wanted.isdisjoint(range(row, following)):
                row = following
                continue
            for batch in file.iter_batches(64, row_groups=[group], columns=[key]):
                for item in batch.column(0).to_pylist():
                    image = _picture(item, recording.root)
                    if image is None:
                        unreadable.setdefault(f"row {row}", "no picture that OpenCV can read")
                    else:
                        yield row, image
                    row += 1


def _picture(item: Any, root: Path) -> NDArray[np.uint8] | None:
    data = (item or {}).get("bytes")
    if not data and (item or {}).get("path") and (root / item["path"]).is_file():
        data = (root / item["path"]).read_bytes()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    return None if image is None else np.asarray(image, np.uint8)
