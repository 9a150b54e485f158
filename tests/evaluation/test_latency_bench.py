"""Success against latency, measured on an expert that no latency and no blindness can hurt."""

import json

import pytest

from vla.bench import latency
from vla.bench.latency import Study, bench_latency
from vla.errors import UserError
from vla.evaluation.paired import paired_difference
from vla.evaluation.provenance import command_line

STUDY = Study("expert", None, "tabletop", ("lift", "push"), 2, 100_000)


def test_every_way_to_run_is_measured_at_every_delay_and_a_second_run_only_reads(
    expert_anywhere, tmp_path, monkeypatch
):
    s2_delays, s1_delays = (0.0, 0.2, 0.5), (0, 2)  # fewer: an episode takes a second
    monkeypatch.setattr(latency, "S2_DELAYS_S", s2_delays)
    monkeypatch.setattr(latency, "S1_DELAYS", s1_delays)
    table = bench_latency(STUDY, tmp_path, 1, loaded=expert_anywhere)
    assert [row["peer"] for row in table["rows"]] == ["frozen", "blind", "synchronous"]
    document = json.loads((tmp_path / "latency.json").read_text())
    for axis, delays in (("s2_delay", s2_delays), ("s1_delay", s1_delays)):
        curves = document["curves"][axis]
        assert set(curves) == {"two-speed", "frozen", "blind", "synchronous"}
        assert all([float(delay) for delay in points] == list(delays) for points in curves.values())
        assert (tmp_path / f"{axis}.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "latency.md").read_text()
    assert table["device"] == document["device"] == "cpu" and "Device: cpu." in page
    assert document["command"] == command_line() and f"`{command_line()}`" in page
    assert "| frozen | 100 % (" in page and "| frozen | 100, 100, 100 | 100, 100, 100 |" in page
    assert "## S1 delay (steps of 50 ms), S2 delay 0.2 s" in page
    again = bench_latency(STUDY, tmp_path, 1, loaded=expert_anywhere)
    assert again == table
    with pytest.raises(UserError, match="another study"):
        bench_latency(Study("expert", None, "tabletop", ("lift",), 2, 100_000), tmp_path, 1, loaded=expert_anywhere)


def test_a_step_is_as_long_as_the_robots():
    assert [latency._step_ms(env) for env in ("tabletop", "aloha", "metaworld")] == [50, 20, 12.5]


def test_nothing_is_so_many_times_better_than_what_never_succeeds():
    at = f"{latency.USUAL_S2_DELAY_S:g}"
    curves = {latency.OURS: {at: {"success_rate": 0.9}}, "blind": {at: {"success_rate": 0.0}}}
    (row,) = latency._rows({"curves": {"s2_delay": curves}})
    assert (row.value, row.peer_value, row.ratio) == (0.9, 0.0, None)


def test_paired_differences_hold_what_unpaired_ones_lose():
    ours, theirs = [True] * 80 + [False] * 20, [True] * 70 + [False] * 30
    difference = paired_difference(ours, theirs)
    assert difference.value == pytest.approx(0.1)
    # Bonett and Price: (10 + 1) / 102 - (0 + 1) / 102, and its standard error.
    assert (difference.low, difference.high) == pytest.approx((0.0334, 0.1627), abs=1e-3)
    assert paired_difference(theirs, ours).value == pytest.approx(-0.1)


def test_equal_runs_differ_by_nothing_give_or_take():
    same = paired_difference([True, False] * 50, [True, False] * 50)
    assert same.value == 0 and same.low < 0 < same.high and same.high < 0.05


def test_runs_of_other_lengths_cannot_be_paired():
    with pytest.raises(ValueError, match="2 and 3"):
        paired_difference([True] * 2, [True] * 3)


def test_families_need_an_episode_each():
    with pytest.raises(UserError, match="cannot cover 2"):
        Study("expert", None, "tabletop", ("lift", "push"), 1, 0)
