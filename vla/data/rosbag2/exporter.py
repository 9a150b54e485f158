"""`vla data export rosbag2`: a dataset as the bag that its robot would have recorded."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vla import assets
from vla.data.cache import CachedEpisode, FrameCache, build_cache
from vla.data.rosbag2.frames import STAMP
from vla.data.workers import progress_bar
from vla.errors import UserError
from vla.messages import SECOND, write_message, write_picture
from vla.ros_types import MessageTypes
from vla.spec import RobotSpec, RosStream
from vla.streams import Source, by_topic, extra, sources

Storage = Literal["mcap", "sqlite3"]
GAP = 10 * SECOND
"""Between episodes whose own times are not known."""


def export_rosbag2(dataset: Path, out: Path, spec_name: str | None = None, storage: Storage = "mcap") -> None:
    """Write the bag `out`, a folder, whole or not at all. spec_name: None takes the dataset's own.

    Original stamps are kept where the dataset has them; else episodes begin 10 s after one another. So does one that by
    its stamps begins before the last one is over, as of another session in simulation. Raises UserError if the dataset
    or the spec's `ros` section is not as needed, or `out` exists.
    """
    out = out.resolve()
    if out.exists():
        raise UserError(f"export: {out} exists; choose another --out")
    assets.check_folder_writable(out.parent)
    spec = RobotSpec.load(assets.find("robot", spec_name or str(dataset)))
    parts = {kind: sources(spec, kind) for kind in ("camera", "state", "action")}
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with tempfile.TemporaryDirectory(prefix="vla-export-") as folder:
            cache = build_cache(dataset, Path(folder) / "cache")
            if differing := spec.diff(cache.spec, "the dataset"):
                raise UserError(f"export: the dataset is of another robot: {'; '.join(differing)}")
            with _Writer(partial / out.name, spec, parts, storage) as writer:
                stamps = _stamps(dataset, len(cache))
                with progress_bar("episodes", len(cache.episodes)) as advance:
                    for episode in cache.episodes:
                        writer.write(cache, episode, stamps)
                        advance(1)
        (partial / out.name).rename(out)  # whose name the file in it has
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"{len(cache.episodes)} episodes, {len(cache)} frames in {out}")


class _Writer:
    """The bag, with one connection per topic of the spec."""

    def __init__(self, path: Path, spec: RobotSpec, parts: Mapping[str, tuple[Source, ...]], storage: Storage) -> None:
        from rosbags.rosbag2 import StoragePlugin, Writer

        self._spec, self._parts, self._types = spec, parts, MessageTypes()
        # Version 8 of the metadata is the newest that Humble reads too.
        self._bag = Writer(path, version=8, storage_plugin=getattr(StoragePlugin, storage.upper()))
        self._connections: dict[str, Any] = {}
        self._told, self._clock = extra(spec, "instruction"), extra(spec, "clock")
        self._next, self._last = SECOND, -1

    def __enter__(self) -> _Writer:
        self._bag.open()
        for stream in self._spec.ros:
            if stream.stream not in ("reset", "outcome") and stream.topic not in self._connections:
                connection = self._bag.add_connection(stream.topic, stream.type, typestore=self._types.store)
                self._connections[stream.topic] = connection
        return self

    def __exit__(self, *error: Any) -> None:
        self._bag.__exit__(*error)

    def write(self, cache: FrameCache, episode: CachedEpisode, stamps: Mapping[str, NDArray[np.int64]]) -> None:
        ticks = stamps.get("tick")
        original = self._next if ticks is None else int(ticks[episode.start])
        begin = original if original > self._last else self._next
        if self._clock and not episode.start:
            self._tell_time(begin - round(SECOND / self._spec.rate_hz))  # what comes before the first word has no time
        if self._told:
            self._put(self._told, begin, self._types.new(self._told.type, data=episode.task))
        for row in range(episode.start, episode.stop):
            tick = begin + round((row - episode.start) * SECOND / self._spec.rate_hz)
            known = {name: int(values[row]) + begin - original for name, values in stamps.items() if values[row]}
            self._sense(cache, row, tick, known)
            self._tell_time(tick)
            self._act(cache.action[row], tick, known)
        self._next, self._last = tick + GAP, tick

    def _tell_time(self, tick: int) -> None:
        if self._clock:
            clock = self._types.new(self._clock.type)
            clock.clock.sec, clock.clock.nanosec = divmod(tick, SECOND)
            self._put(self._clock, tick, clock)

    def _sense(self, cache: FrameCache, row: int, tick: int, known: Mapping[str, int]) -> None:
        for part in self._parts["camera"]:
            assert part.camera
            stamp = known.get(part.name) or tick
            picture = cache.images[part.camera.name][row]
            self._put(part.stream, tick, write_picture(self._types, part.stream, part.camera, picture, stamp))
        self._vectors("state", cache.state[row], tick, known)

    def _act(self, action: NDArray[np.float32], tick: int, known: Mapping[str, int]) -> None:
        self._vectors("action", action, tick, known)

    def _vectors(self, kind: str, vector: NDArray[np.float32], tick: int, known: Mapping[str, int]) -> None:
        for parts in by_topic(self._parts[kind]).values():
            stamp = known.get(parts[0].name) or tick
            # A command counts from its stamp on, where it was given within its period.
            late = kind == "action" and tick <= stamp < tick + SECOND / self._spec.rate_hz
            values = [(part.stream, part.fields, vector[part.place].astype(np.float64)) for part in parts]
            message = write_message(self._types, values, stamp, 1 / self._spec.rate_hz)
            self._put(parts[0].stream, stamp if late else tick, message)

    def _put(self, stream: RosStream, time: int, message: Any) -> None:
        self._bag.write(self._connections[stream.topic], time, self._types.to_cdr(message))


def _stamps(dataset: Path, length: int) -> dict[str, NDArray[np.int64]]:
    """The columns of original stamps, by stream, in the order of the frames; empty where a dataset has none."""
    from pyarrow import parquet

    columns: dict[str, list[NDArray[np.int64]]] = {}
    for file in sorted((dataset / "data").glob("chunk-*/file-*.parquet")):
        table = parquet.read_table(file)
        for name in table.column_names:
            if name.startswith(STAMP):
                values = table[name].combine_chunks().to_numpy(zero_copy_only=False)
                columns.setdefault(name.removeprefix(STAMP), []).append(np.array([int(np.ravel(v)[0]) for v in values]))
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return {name: values for name, values in joined.items() if len(values) == length}
