"""A dataset as an .rrd file for the rerun viewer: cameras, every entry of state and action, texts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from vla.data.doctor.pictures import frames_at
from vla.data.doctor.recording import Recording
from vla.data.lerobot_v3 import ACTION, IMAGES, STATE
from vla.data.view.episodes import Shown, episodes_to_show
from vla.errors import UserError


def write_rerun(root: Path, file: Path, episode: int | None = None) -> None:
    """Write the file, whole or not at all. Raises UserError as the page does, and if rerun is not installed."""
    try:
        import rerun as rr
    except ModuleNotFoundError:
        raise UserError("--rerun: Python package rerun is missing: pip install 'vla[data]'") from None
    recording = Recording.open(root)
    shown = episodes_to_show(recording, episode)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    with rr.RecordingStream("vla_data_view", recording_id=recording.root.resolve().name) as stream:
        stream.save(str(partial))
        for one in shown:
            _log(rr, stream, recording, one)
    partial.replace(file)


def _log(rr: Any, stream: Any, recording: Recording, shown: Shown) -> None:
    """Under `episode_N/`, on the timelines `frame` and `time` (s), which start at 0 in every episode."""
    root, rows = f"episode_{shown.number}", shown.rows
    frames = np.arange(rows.stop - rows.start)
    times = [rr.TimeColumn("frame", sequence=frames), rr.TimeColumn("time", duration=frames / recording.fps)]
    for key, name in ((STATE, "state"), (ACTION, "action")):
        values = recording.vectors(key)[rows]
        for entry, label in enumerate(recording.names(key)):
            stream.send_columns(
                f"{root}/{name}/{label}", indexes=times, columns=rr.Scalars.columns(scalars=values[:, entry])
            )
    stream.set_time("frame", sequence=0)
    stream.set_time("time", duration=0.0)
    for text in shown.texts:
        stream.log(f"{root}/instruction", rr.TextLog(text))
    for start, _, text in shown.subtasks:
        stream.set_time("frame", sequence=start)
        stream.set_time("time", duration=start / recording.fps)
        stream.log(f"{root}/subtask", rr.TextLog(text))
    if shown.annotation and (words := shown.annotation.words):
        said = [(0.0, f"in hindsight: {words.instruction}")] if words.instruction else []
        said += [(one.start, one.text) for one in words.subtasks]
        said += [(one.at, f"{one.question} {one.answer}") for one in words.questions]
        for at, text in said:
            stream.set_time("frame", sequence=round(at * recording.fps))
            stream.set_time("time", duration=at)
            stream.log(f"{root}/annotation", rr.TextLog(text))
    for key in recording.cameras:
        for row, image in frames_at(recording, key, list(range(rows.start, rows.stop))).items():
            stream.set_time("frame", sequence=row - rows.start)
            stream.set_time("time", duration=(row - rows.start) / recording.fps)
            stream.log(f"{root}/{key.removeprefix(IMAGES)}", rr.Image(image).compress(jpeg_quality=90))
