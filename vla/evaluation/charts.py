"""Small charts as SVG text: they take their colours from the page, so they follow its light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH = 360
"""Units across; a phone shows about as many pixels, so text sizes below are readable there."""
LEFT, RIGHT = 8, 8


@dataclass(frozen=True)
class Rate:
    """One bar: a success rate in [0, 1] (None if nothing was tried) with its interval, over `episodes`."""

    name: str
    rate: float | None
    low: float
    high: float
    episodes: int


def rate_bars(rates: Sequence[Rate]) -> str:
    """Horizontal bars with whiskers for the intervals, 0 to 100 %."""
    label, number, row = 84, 56, 34
    left, right, height = label, WIDTH - number, row * len(rates) + 26
    parts = []
    for percent in (0, 25, 50, 75, 100):
        x = left + (right - left) * percent / 100
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 22}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 6}" text-anchor="middle">{percent}</text>')
    for index, bar in enumerate(rates):
        y = row * index + row / 2
        x, low, high = (left + (right - left) * value for value in (bar.rate or 0.0, bar.low, bar.high))
        shown = "–" if bar.rate is None else f"{100 * bar.rate:.0f} %"
        parts.append(f'<text x="0" y="{y + 4}">{escape(bar.name)}</text>')
        parts.append(f'<rect class="bar" x="{left}" y="{y - 8}" width="{x - left:.1f}" height="16" rx="2"/>')
        if bar.rate is not None:
            ends = "".join(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y - 4}" y2="{y + 4}"/>' for at in (low, high))
            parts.append(f'<g class="whisker"><line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>{ends}</g>')
        parts.append(f'<text x="{WIDTH}" y="{y + 4}" text-anchor="end">{shown}</text>')
    return _svg(height, parts, "Success rate by group with 95 % intervals")


def histogram(groups: Sequence[tuple[str, Sequence[float]]], unit: str, bins: int = 24, low: float | None = 0.0) -> str:
    """Counts of values; the groups (class name, values) are stacked. The axis starts at `low`, or the least value."""
    values = np.concatenate([np.asarray(values, float) for _, values in groups]) if groups else np.zeros(0)
    if not len(values):
        return '<p class="none">nothing measured</p>'
    start = float(values.min()) if low is None else low
    # The few slowest of many calls would squeeze the rest into one bar.
    end = float(max(np.percentile(values, 99.5) * 1.05, start + 1e-3))
    end = _round_up(end - start) + start
    edges = np.linspace(start, end, bins + 1)
    stacks = [(name, np.histogram(np.clip(values, start, end), edges)[0]) for name, values in groups]
    top = max(1, int(np.sum([counts for _, counts in stacks], axis=0).max()))
    height, base = 150, 122
    step = (WIDTH - LEFT - RIGHT) / bins
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>']
    below = np.zeros(bins)
    for name, counts in stacks:
        for index, count in enumerate(counts):
            if count:
                tall = (base - 14) * count / top
                y = base - (base - 14) * below[index] / top - tall
                x = LEFT + index * step
                parts.append(
                    f'<rect class="bar {escape(name)}" x="{x + 0.75:.1f}" y="{y:.1f}" width="{step - 1.5:.1f}" '
                    f'height="{tall:.1f}"/>'
                )
        below += counts
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x = LEFT + share * (WIDTH - LEFT - RIGHT)
        shown = f"{start + share * (end - start):.3g}" + (f" {unit}" if share == 1.0 else "")
        parts.append(f'<text class="tick" x="{x:.1f}" y="{base + 18}" text-anchor="{anchor}">{escape(shown)}</text>')
    median = float(np.median(values))
    x = LEFT + (min(median, end) - start) / (end - start) * (WIDTH - LEFT - RIGHT)
    anchor = "start" if x < WIDTH / 2 else "end"
    parts.append(f'<line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{base}"/>')
    label = f"median {median:.3g} {unit}"
    parts.append(
        f'<text class="tick" x="{x + (5 if anchor == "start" else -5):.1f}" y="11" text-anchor="{anchor}">'
        f"{escape(label)}</text>"
    )
    return _svg(height, parts, f"Histogram, {label}")


def _round_up(value: float) -> float:
    """The next of 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(m * power for m in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12) if m * power >= value - 1e-12))


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
