"""`vla bench loader` does the same work by both ways in one run."""

import pytest

from vla.bench import loader
from vla.cli import main


@pytest.fixture
def rows(monkeypatch):
    monkeypatch.setattr(loader, "LEAST_SECONDS", 0.2)
    monkeypatch.setattr(loader, "BATCH", 8)
    monkeypatch.setattr(loader, "CODEC", "h264")
    monkeypatch.setattr(loader, "FEW", 3)
    return {row["name"]: row for row in loader.bench_loader(size=64, episodes=2, length=8, many=6)["rows"]}


def test_speed_and_memory_are_measured_beside_lerobot(rows):
    assert len(rows) == 6
    for count, read in ((3, 15), (6, 30)):
        assert f"memory, {count} episodes, {read} frames read; peer 15" in rows
    assert all(row["peer"] == "LeRobotDataset" and row["value"] > 0 and row["peer_value"] > 0 for row in rows.values())


def test_at_least_the_frames_that_are_asked_for_are_loaded(monkeypatch):
    asked = []
    monkeypatch.setattr(loader, "bench_loader", lambda size, episodes, **_: asked.append(episodes) or {})
    assert main(["bench", "loader", "--frames", "150"]) == main(["bench", "loader"]) == 0
    assert asked == [2, 10]
