"""`vla bench runtime` measures the runtime and the same model in one thread, each as the robot received it."""

from vla.bench.runtime import bench_runtime
from vla.cli import main


def test_every_quantity_is_there_for_both(untrained, tmp_path):
    document = bench_runtime(str(untrained), "tabletop", 3, 3.0, tmp_path)
    rows = {row["name"]: row for row in document["rows"]}
    assert list(rows) == [
        "commands", "period error p50", "period error p99", "largest gap", "S1 replans", "S1 chunk p50", "S2 thoughts",
        "S2 thought p50",
    ]  # fmt: skip
    assert rows["S1 chunk p50"]["unit"] == "ms" and rows["S2 thoughts"]["unit"] == "1/s"
    for row in rows.values():
        assert row["value"] > 0 and row["peer_value"] > 0, row
    assert rows["largest gap"]["value"] >= rows["period error p99"]["value"] >= rows["period error p50"]["value"]
    assert document["details"]["scheduling"]


def test_how_long_is_said_once(capsys):
    assert main(["bench", "runtime", "--seconds", "3", "--minutes", "1"]) == 2
    assert "not both" in capsys.readouterr().err
