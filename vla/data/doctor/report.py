"""The doctor's findings for people: lines on the console, and a page with a picture for each."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from vla import assets
from vla.data.doctor.examine import Diagnosis
from vla.data.doctor.finding import Finding
from vla.data.doctor.pictures import frames_at
from vla.data.lerobot_v3 import IMAGES
from vla.data.plots import lines, strip
from vla.page import page, table

CAMERAS_SHOWN = 2
STRIP = (-2, -1, 0, 1, 2)
"""Frames around a finding."""


def say(diagnosis: Diagnosis) -> str:
    """A few lines for the console."""
    recording = diagnosis.recording
    out = [f"{finding.kind}: {finding.where}: {finding.message}" for finding in diagnosis.findings]
    out += [f"not checked: {name} (needs {need})" for name, need in diagnosis.left_out.items()]
    count = len(diagnosis.findings)
    found = f"{count} finding{'s' * (count > 1)}" if count else "nothing found"
    out.append(
        f"{found} in {len(recording.episodes)} episodes, {len(recording)} frames ({len(diagnosis.made)} checks made)"
    )
    return "\n".join(out)


def write_page(path: Path, diagnosis: Diagnosis, more: Sequence[tuple[str, str]] = ()) -> None:
    """Write the page, whole or not at all; more: further (heading, HTML) sections."""
    recording = diagnosis.recording
    count = len(diagnosis.findings)
    body = [
        f"<h1>{escape(str(recording.root))}</h1>",
        f'<p class="headline">{count or "No"} <small>finding{"" if count == 1 else "s"}</small></p>',
        f'<p class="soft">{len(recording.episodes)} episodes, {len(recording)} frames, '
        f"{len(diagnosis.made)} checks.</p>",
        *(_figure(diagnosis, finding) for finding in diagnosis.findings),
        *(f"<h2>{escape(heading)}</h2>{html}" for heading, html in more),
    ]
    if diagnosis.left_out:
        rows = [[escape(name), escape(need)] for name, need in diagnosis.left_out.items()]
        body += ["<h2>Not checked</h2>", table([("check", False), ("what it would need", False)], rows)]
    assets.write_file(path, page(f"Doctor: {recording.root.name}", "\n".join(body)))


def _figure(diagnosis: Diagnosis, finding: Finding) -> str:
    chart = lines([(c.name, c.values) for c in finding.curves], finding.frame, finding.since) if finding.curves else ""
    return (
        f"<h2>{escape(finding.kind)}</h2><p>{escape(finding.where)}: {escape(finding.message)}</p>"
        f"<figure>{_strips(diagnosis, finding)}{chart}</figure>"
    )


def _strips(diagnosis: Diagnosis, finding: Finding) -> str:
    """The frames around it, from the camera concerned or the first few."""
    recording = diagnosis.recording
    episode = finding.episodes[0] if finding.episodes else next(iter(recording.episodes))
    if episode not in recording.episodes:
        return ""
    rows, middle = recording.episodes[episode], finding.frame or 0
    wanted = [rows.start + middle + i for i in STRIP if rows.start <= rows.start + middle + i < rows.stop]
    named = [key for key in recording.cameras if key.removeprefix(IMAGES) == finding.camera]
    strips = []
    for key in named or recording.cameras[:CAMERAS_SHOWN]:
        found = frames_at(recording, key, wanted)
        name = key.removeprefix(IMAGES)
        shown = {row - rows.start: found.get(row) for row in wanted}
        strips.append(f'<p class="key">{escape(name)}, episode {episode}</p>{strip(name, shown)}')
    return "".join(strips)
