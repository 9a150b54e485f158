"""`vla eval --real-time`: the same episodes on a robot that does not wait, paired with those on simulated time."""

import json
import os
import shutil
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest

from vla.cli import main
from vla.evaluation import realtime_episodes
from vla.evaluation.pool import Job
from vla.evaluation.realtime import RealTimeRun, RunResult, run_in_real_time
from vla.evaluation.realtime_episodes import measured, measured_timing, print_measured
from vla.evaluation.setup import Setup
from vla.policies import can_be_exported
from vla.processes import SPAWN
from vla.robots.sim_wires import BodyState, World
from vla.runtime.command_state import CommandState
from vla.runtime.reports import FastReport
from vla.runtime.run_telemetry import RunTelemetry
from vla.runtime.supervisor import Watch

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
    timing = here["measured"]
    assert timing["s2_delay"] > 0.03, "images travel"
    assert timing["s2_period"] > 0 and timing["s1_delay"] >= 1
    assert here["counts"]["stopped"] in (0, 1) and all(isinstance(count, int) for count in here["limited"].values())
    said = capsys.readouterr().out
    assert "--task lift --split all --s2-delay " in said
    assert here["latency"]["s1_ms"]["p50"] > 0 and "slipped_ms" in here["counts"]


def test_time_that_the_robot_did_not_live_through_does_not_count(untrained, tmp_path):
    frozen = []

    def freeze_once(telemetry, body):
        if not frozen:
            frozen.extend(one.pid for one in SPAWN.active_children() if one.name == "vla-body")
            os.kill(frozen[0], signal.SIGSTOP)
            time.sleep(2.5)
            os.kill(frozen[0], signal.SIGCONT)

    result = run_in_real_time(RealTimeRun(str(untrained), World(seed=7), 2.0, tmp_path), freeze_once)
    assert result.body.slipped > 2 and result.body.age_s >= result.lasted_s == 2.0


@pytest.mark.parametrize(("done_after", "counts"), [(2.0, True), (2.005, False), (None, False)])
def test_what_is_done_when_the_time_is_over_is_not_done(done_after, counts):
    body = BodyState(ticks=1000, began_s=1.0, solved_s=done_after)
    result = RunResult(RunTelemetry(), np.zeros(0), body, "", limit_s=2.0)
    assert (result.solved_s is not None) == counts and result.lasted_s == 2.0


def test_a_changed_mind_counts_among_the_words_that_were_said_last(monkeypatch):
    said = "move the blue cube into the yellow tray"
    body = BodyState(ticks=1000, began_s=1.0, solved_s=1.0)
    run = RunResult(RunTelemetry(), np.zeros(0), body, said, limit_s=2.0)
    monkeypatch.setattr(realtime_episodes, "run_in_real_time", lambda _: run)
    (result,) = realtime_episodes.play(Setup("tabletop", "tabletop-suite", task="changed"), [Job(0, 100_003)])
    assert result.original is not None and (result.instruction, result.split) == (said, "pair")


def test_simulated_time_is_charged_the_steps_that_chunks_were_committed_to_on_average():
    telemetry = RunTelemetry()
    for delay in (1, 1, 1, 4, 4):
        fast = FastReport(0.0, ms=10.0, image_age_s=0.03, delay=delay)
        telemetry.add(Watch((), (fast,), CommandState(), ()))
    result = SimpleNamespace(delays={"s1_delay": list(telemetry.s1_delays)})
    assert measured_timing([result, result]) == {"s2_delay": None, "s2_period": None, "s1_delay": 2}


def test_what_the_safety_gate_did_is_in_the_document_by_rule_and_said_in_a_line(capsys):
    one = SimpleNamespace(delays={}, limited={"velocity.joint1": 2, "stale": 1})
    other = SimpleNamespace(delays={}, limited={"velocity.joint1": 1, "velocity.joint2": 4})
    document = measured([one, other])
    assert document["limited"] == {"velocity.joint2": 4, "velocity.joint1": 3, "stale": 1}
    document |= {"episodes": 2, "counts": {"stopped": 1, "slipped_ms": 0}}
    print_measured(document)
    said = capsys.readouterr().out
    assert "limited commands (velocity 7, stale 1) and had stopped the robot at the end of 1 of 2 episodes" in said
    print_measured(document | {"limited": {}, "counts": {"stopped": 0, "slipped_ms": 0}})
    assert "safety gate" not in capsys.readouterr().out


def test_the_command_for_simulated_time_asks_in_the_same_words(capsys):
    document = {
        "policy": "mine",
        "env": "tabletop",
        "episodes": 2,
        "seed": 5,
        "counts": {"stopped": 0, "slipped_ms": 0},
    }
    document |= {"limited": {}, "measured": {"s2_delay": 0.1, "s2_period": 0.2, "s1_delay": 1}}
    for perturb, said in (["swap"], " --perturb swap "), (["paraphrase"], " --perturb paraphrase "), ([], "all --s2-"):
        print_measured(document | {"options": {"task": "all", "split": "all", "perturb": perturb}})
        assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    "more", [["--s2-delay", "0.2"], ["--s1-delay", "1"], ["--variant", "frozen"], ["--report", "REPORT"]]
)
def test_what_only_simulated_time_can_do_is_refused(more, tmp_path, capsys):
    more = [str(tmp_path / "report") if word == "REPORT" else word for word in more]
    assert main([*WHERE, "--real-time", *more]) == 2
    said = capsys.readouterr().err
    assert "are for simulated time, not --real-time" in said and said.count("\n") == 1


def test_a_rollout_leaves_its_numbers_and_says_what_would_be_faster(tmp_path, capsys):
    where = ["--policy", "tabletop", "--env", "tabletop", "--seconds", "2", "--seed", "7", "--out", str(tmp_path)]
    assert main(["rollout", "--real-time", *where]) == 0
    assert "vla export --policy tabletop" in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["s1_hz"] > 0 and summary["memory_mb"]["s1"] > 10 and (tmp_path / "run.png").is_file()
    lines = [json.loads(line) for line in (tmp_path / "telemetry.jsonl").read_text().splitlines()]
    assert lines[-1]["command"]["tick"] > 0 and any("memory_mb" in line for line in lines)


def test_only_a_policy_that_can_be_exported_is_said_to_be_slow(untrained, tmp_path):
    assert can_be_exported(str(untrained)) and not can_be_exported("ws://127.0.0.1:1")
    there = tmp_path / "exported"
    shutil.copytree(untrained, there)
    (there / "s1.onnx").touch()
    assert not can_be_exported(str(there))
