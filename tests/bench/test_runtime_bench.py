"""`vla bench runtime` and `soak` measure the runtime as the robot received it, the same model in one thread, memory."""

import json
import subprocess
import sys

from vla.bench.idle_loop import IDLE
from vla.bench.runtime import bench_runtime
from vla.bench.soak import memory_rows
from vla.cli import main


def test_every_quantity_is_there_for_both(untrained, tmp_path):
    document = bench_runtime(str(untrained), "tabletop", 3, 3.0, tmp_path)
    idle = {row["name"]: row for row in document["rows"] if row["peer"] == IDLE}
    assert list(idle) == ["period error p99", "largest gap"]
    rows = {row["name"]: row for row in document["rows"] if row["peer"] != IDLE}
    assert list(rows) == [
        "commands", "period error p50", "period error p99", "largest gap", "S1 replans", "S1 chunk p50", "S2 thoughts",
        "S2 thought p50",
    ]  # fmt: skip
    assert rows["S1 chunk p50"]["unit"] == "ms" and rows["S2 thoughts"]["unit"] == "1/s"
    for row in (*rows.values(), *idle.values()):
        assert row["value"] > 0 and row["peer_value"] > 0, row
    assert rows["largest gap"]["value"] >= rows["period error p99"]["value"] >= rows["period error p50"]["value"]
    assert document["details"]["scheduling"] and document["device"] == "cpu"


def test_how_long_is_said_once(capsys):
    assert main(["bench", "runtime", "--seconds", "3", "--minutes", "1"]) == 2
    assert "not both" in capsys.readouterr().err


def test_a_minute_holds_no_more_memory_than_ten_seconds(untrained, tmp_path):
    """In a process of its own: this one holds what other tests left in it."""
    words = ["--policy", untrained, "--env", "tabletop", "--seed", 3, "--seconds", 60]
    words += ["--out", tmp_path, "--json", tmp_path / "rows.json"]
    subprocess.run([sys.executable, "-m", "vla.cli", "bench", "soak", *map(str, words)], check=True, timeout=300)
    rows = {row["name"]: row for row in json.loads((tmp_path / "rows.json").read_text())["rows"]}
    assert {f"memory of {name}" for name in ("main", "s1", "s2", "command", "body", "cameras")} < set(rows)
    for name, row in rows.items():
        if name.startswith("memory"):
            assert 0 < row["value"] < row["peer_value"] + 4, name
    assert rows["processes and shared memory left behind"]["value"] == 0
    assert (tmp_path / "run.png").stat().st_size > 10_000


def test_memory_that_grows_is_seen():
    rows = memory_rows([(float(second), {"s1": 100.0 + second}) for second in range(100)])
    assert [(row.name, row.value, row.peer_value) for row in rows] == [("memory of s1", 194.5, 114.5)]
