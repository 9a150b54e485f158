"""`vla bench sim` measures both sides in one run."""

from vla.bench import sim


def test_fast_rendering_beats_the_default(monkeypatch):
    monkeypatch.setattr(sim, "STEPS", 20)
    monkeypatch.setattr(sim, "REPEATS", 1)
    (row,) = sim.bench_sim()["rows"]
    assert row["unit"] == "steps/s" and row["ratio"] > 2
