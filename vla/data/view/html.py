"""A dataset as one HTML page that needs nothing else: frames, plots, texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from vla import assets
from vla.data.annotations import Annotation
from vla.data.doctor.pictures import frames_at
from vla.data.doctor.recording import Recording
from vla.data.lerobot_v3 import ACTION, IMAGES, STATE, picture_size
from vla.data.plots import lines, strip
from vla.data.view.episodes import Shown, episodes_to_show
from vla.page import page, table
from vla.spec import Field, field_slices

PICTURES = 8
"""Of every camera, evenly over the episode."""
CHART = 300
"""Pixels: three stand beside each other."""


def write_view(root: Path, file: Path, episode: int | None = None) -> None:
    """Write the page, whole or not at all. Raises UserError if `root` cannot be read or has no such episode."""
    recording = Recording.open(root)
    shown = episodes_to_show(recording, episode)
    info = recording.info
    facts = [
        ["episodes, frames", f"{len(recording.episodes)}, {len(recording)} at {recording.fps:g} Hz"],
        ["robot", escape(str(info.get("robot_type") or (recording.spec.name if recording.spec else "not said")))],
        [
            "cameras",
            escape(", ".join(f"{k.removeprefix(IMAGES)} {_size(info['features'][k])}" for k in recording.cameras)),
        ],
        ["columns", escape(", ".join(key for key in info["features"] if key not in recording.cameras))],
        ["instructions", escape("; ".join(list(recording.tasks.values())[:8]))],
    ]
    body = f"<h1>{escape(recording.root.resolve().name)}</h1>" + table([("", False), ("", False)], facts)
    body += "".join(_episode(recording, one) for one in shown)
    assets.write_file(file, page(recording.root.resolve().name, body))


def _episode(recording: Recording, shown: Shown) -> str:
    length = shown.rows.stop - shown.rows.start
    parts = [
        f"<h2>Episode {shown.number}</h2><p>{escape('; '.join(shown.texts) or 'no instruction')}</p>"
        f'<p class="soft">{length} frames, {length / recording.fps:.1f} s</p>'
    ]
    chosen = [shown.rows.start + int(i) for i in np.unique(np.linspace(0, length - 1, min(PICTURES, length)).round())]
    for key in recording.cameras:
        found = frames_at(recording, key, chosen)
        name = key.removeprefix(IMAGES)
        pictures = {row - shown.rows.start: found.get(row) for row in chosen}
        parts.append(f"<h3>{escape(name)}</h3><figure>{strip(name, pictures)}</figure>")
    if shown.subtasks:
        rows = [[f"{a} to {b - 1}", escape(text)] for a, b, text in shown.subtasks]
        parts.append(table([("frames", False), ("subtask", False)], rows))
    if shown.annotation:
        parts.append(_annotation(shown.annotation))
    cards = "".join(f'<div class="card"><h3>{escape(t)}</h3>{c}</div>' for t, c in _charts(recording, shown))
    return "".join(parts) + f'<div class="charts next">{cards}</div>'


def _annotation(said: Annotation) -> str:
    """What was said afterwards, and who said it."""
    source = said.source
    by = f'<p class="soft">annotated by {escape(source.kind)} {escape(source.model)} {escape(source.version)}</p>'
    if said.words is None:
        return f"<h3>In hindsight</h3><p>skipped: {escape(said.skipped)}</p>{by}"
    rows = [[f"{one.start:.1f} to {one.stop:.1f} s", escape(one.text), ""] for one in said.words.subtasks]
    rows += [[f"at {one.at:.1f} s", escape(one.question), escape(one.answer)] for one in said.words.questions]
    words = escape(said.words.instruction or "no other instruction")
    listed = table([("time", False), ("subtask or question", False), ("answer", False)], rows) if rows else ""
    return f"<h3>In hindsight</h3><p>{words}</p>{by}{listed}"


def _charts(recording: Recording, shown: Shown) -> Iterator[tuple[str, str]]:
    """One for each field of state and action where a spec names them, else one for the whole."""
    spec = recording.spec
    for key, label, fields in (
        (STATE, "state", spec.state if spec else ()),
        (ACTION, "action", spec.action.fields if spec else ()),
    ):
        values, names = recording.vectors(key)[shown.rows], recording.names(key)
        if not values.shape[1]:
            continue
        slices = field_slices(fields)
        if sum(field.size for field in fields) != values.shape[1]:
            slices, fields = {label: slice(0, values.shape[1])}, ()
        for name, place in slices.items():
            title = label if name == label else f"{label}: {name}{_unit(fields, name)}"
            yield title, lines([(n, v) for n, v in zip(names[place], values[:, place].T, strict=True)], width=CHART)


def _unit(fields: tuple[Field, ...], name: str) -> str:
    unit = next((field.unit for field in fields if field.name == name), "1")
    return "" if unit == "1" else f", {unit}"


def _size(feature: Mapping[str, Any]) -> str:
    height, width = picture_size(feature)
    return f"{width}x{height}"
