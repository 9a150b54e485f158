"""The one table and the one JSON shape every benchmark reports in."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One measured quantity, beside the same work done by `peer` if there is one. `ratio`: ours / theirs, None where
    theirs is 0.
    """

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.value / self.peer_value if self.peer_value else None


def in_points(difference: Mapping[str, float]) -> str:
    """A paired difference with its interval, in points: "+3, -2 to +8"."""
    value, low, high = (100 * difference[key] for key in ("value", "low", "high"))
    return f"{value:+.0f}, {low:+.0f} to {high:+.0f}"


def error_bars(summaries: Iterable[Mapping[str, Any]]) -> tuple[list[float], list[list[float]]]:
    """Success rates in percent, and how far their intervals reach below and above, as matplotlib wants them."""
    rates, below, above = [], [], []
    for one in summaries:
        rate, (low, high) = 100 * one["success_rate"], (100 * bound for bound in one["ci95"])
        rates.append(rate)
        below.append(abs(rate - low))
        above.append(abs(high - rate))
    return rates, [below, above]


def report(title: str, rows: list[Row]) -> dict[str, Any]:
    """Print the table and return the document `--json` writes: {"rows": [{name, value, unit, peer, ...}]}."""
    table = Table("what", "ours", "unit", "peer", "peer's", "ratio", title=title)
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        theirs = "-" if row.peer_value is None else f"{row.peer_value:.4g}"
        table.add_row(row.name, f"{row.value:.4g}", row.unit, row.peer, theirs, ratio)
    Console().print(table)
    return {"rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}
