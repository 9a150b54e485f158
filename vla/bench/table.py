"""The one table and the one JSON shape every benchmark reports in."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One measured quantity beside the same work done by `peer`. `ratio`: ours / theirs, None where theirs is 0."""

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float

    @property
    def ratio(self) -> float | None:
        return self.value / self.peer_value if self.peer_value else None


def report(title: str, rows: list[Row]) -> dict[str, Any]:
    """Print the table and return the document `--json` writes: {"rows": [{name, value, unit, peer, ...}]}."""
    table = Table("what", "ours", "unit", "peer", "peer's", "ratio", title=title)
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.name, f"{row.value:.4g}", row.unit, row.peer, f"{row.peer_value:.4g}", ratio)
    Console().print(table)
    return {"rows": [{**asdict(row), "ratio": row.ratio} for row in rows]}
