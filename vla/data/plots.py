"""Line charts and pictures as text for a page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from vla.jpeg import encode_jpeg
from vla.page import data_url

HEIGHT, LEFT, BOTTOM = 150, 52, 22
COLOURS = ("#1f8a7d", "#d07c1e", "#5b6ee1", "#b8433c", "#8a6fb0", "#6b8e23", "#c05a8e", "#4a90b8")
MOST_POINTS = 600


def lines(
    curves: Sequence[tuple[str, Sequence[float]]], mark: int | None = None, since: int = 0, width: int = 1000
) -> str:
    """(name, values over frames) as one SVG chart; mark: a frame to point at. since: the frame of the first value.

    width: about how many pixels wide it will be shown, so that its words can be read.
    """
    series = [(name, np.asarray(values, float)) for name, values in curves if len(values)]
    finite = np.concatenate([values[np.isfinite(values)] for _, values in series] or [np.zeros(0)])
    if not finite.size:
        return '<p class="none">no numbers to draw</p>'
    low, high = float(finite.min()), float(finite.max())
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 1, high + 1
    last = max(len(values) for _, values in series) - 1 or 1

    def x(frame: float) -> float:
        return LEFT + (width - LEFT - 8) * (frame - since) / last

    def y(value: float) -> float:
        return 6 + (HEIGHT - BOTTOM - 12) * (high - value) / (high - low)

    parts = [f'<line class="axis" x1="{LEFT}" x2="{width - 8}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>']
    places = 2 - int(np.floor(np.log10(high - low)))
    for value in (low, high):
        said = f"{round(value, places) + 0.0:.4g}"  # 1e-17 beside 1 is 0
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{said}</text>')
    for frame, anchor in ((since, "start"), (since + last, "end")):
        parts.append(f'<text class="tick" x="{x(frame):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{frame}</text>')
    if mark is not None and since <= mark <= since + last:
        parts.append(f'<line class="median" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="2" y2="{HEIGHT - BOTTOM}"/>')
    for index, (_, values) in enumerate(series):
        parts.append(_polyline(values, COLOURS[index % len(COLOURS)], x, y, since))
    key = "".join(
        f'<span style="white-space:nowrap;margin-right:14px"><i style="background:{COLOURS[i % len(COLOURS)]}"></i>'
        f"{escape(name)}</span> "
        for i, (name, _) in enumerate(series)
    )
    label = escape(", ".join(name for name, _ in series))
    svg = f'<svg viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    return f'{svg}<p class="key">{key}</p>'


def picture(image: NDArray[np.uint8], alt: str, least: int = 160) -> str:
    """An RGB picture (H, W, 3) as an <img>; small ones are enlarged, pixel by pixel."""
    scale = max(1, -(-least // image.shape[0]))
    large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    data = encode_jpeg(np.asarray(large, np.uint8), 88)
    return f'<img alt="{escape(alt)}" src="{data_url(data, "image/jpeg")}">'


def strip(name: str, images: Mapping[int, NDArray[np.uint8] | None]) -> str:
    """Pictures of one camera beside each other; images: frame -> picture, None where there is none."""
    cells = []
    for frame, image in images.items():
        shown = '<p class="none">no picture</p>' if image is None else picture(image, f"{name}, frame {frame}")
        cells.append(f'<div>{shown}<p class="key">{frame}</p></div>')
    columns = f"display:grid;gap:6px;grid-template-columns:repeat({max(1, len(cells))},1fr)"
    return f'<div style="{columns}">{"".join(cells)}</div>'


def _polyline(values: NDArray[np.float64], colour: str, x: object, y: object, since: int) -> str:
    assert callable(x) and callable(y)
    step = max(1, len(values) // MOST_POINTS)
    chosen = [i for i in range(0, len(values), step) if np.isfinite(values[i])]
    points = " ".join(f"{x(since + i):.1f},{y(values[i]):.1f}" for i in chosen)
    return f'<polyline points="{points}" style="fill:none;stroke:{colour};stroke-width:1.5"/>'
