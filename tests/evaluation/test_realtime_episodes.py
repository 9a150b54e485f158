"""`vla eval --real-time`: the same episodes on a robot that does not wait, paired with those on simulated time."""

import json

import pytest

from vla.cli import main

WHERE = ["eval", "--policy", "tabletop", "--env", "tabletop", "--task", "lift", "--episodes", "1", "--seed", "100000"]


def test_episodes_in_wall_clock_time_pair_with_those_on_simulated_time(tmp_path, capsys):
    simulated, real = tmp_path / "simulated.json", tmp_path / "real.json"
    assert main([*WHERE, "--json", str(simulated)]) == 0
    assert main([*WHERE, "--real-time", "--json", str(real), "--compare", str(simulated)]) == 0
    there, here = json.loads(simulated.read_text()), json.loads(real.read_text())
    for name in ("seed", "task", "split", "instruction"):
        assert here["details"][0][name] == there["details"][0][name]
    assert here["options"]["real_time"] and not there["options"]["real_time"]
    assert here["compared"]["all"]["episodes"] == 1 and here["details"][0]["steps"] > 0
    measured = here["measured"]
    assert measured["s2_delay"] > 0.03, "images travel"
    assert measured["s2_period"] > 0 and measured["s1_delay"] >= 1
    said = capsys.readouterr().out
    assert "--task lift --split all --s2-delay " in said
    assert here["latency"]["s1_ms"]["p50"] > 0 and "slipped_ms" in here["counts"]


@pytest.mark.parametrize(
    "more", [["--s2-delay", "0.2"], ["--s1-delay", "1"], ["--variant", "frozen"], ["--report", "REPORT"]]
)
def test_what_only_simulated_time_can_do_is_refused(more, tmp_path, capsys):
    more = [str(tmp_path / "report") if word == "REPORT" else word for word in more]
    assert main([*WHERE, "--real-time", *more]) == 2
    said = capsys.readouterr().err
    assert "are for simulated time, not --real-time" in said and said.count("\n") == 1
