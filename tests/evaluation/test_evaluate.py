import json
import re

import pytest

from vla.errors import UserError
from vla.evaluation.demo import demo
from vla.evaluation.evaluate import EvalOptions, evaluate
from vla.evaluation.rollout_command import rollout
from vla.runtime.loop import Timing


def test_the_document_says_what_was_done_and_what_came_of_it(expert_anywhere, capsys):
    options = EvalOptions(task="lift", timing=Timing(s2_delay=0.2))
    document = evaluate("expert", "tabletop", 3, 100_000, options, loaded=expert_anywhere)
    assert json.loads(json.dumps(document)) == document
    assert {"policy", "env", "seed", "git", "command"} <= set(document)
    assert document["episodes"] == 3 and document["outcomes"] == [True] * 3
    assert document["success_rate"] == 1.0 and document["ci95"] == [pytest.approx(0.4385, abs=1e-4), 1.0]
    assert document["per_task"].keys() == {"lift"} and document["per_task"]["lift"]["episodes"] == 3
    for key in ("s1_ms", "s2_ms", "s2_age_s"):
        assert set(document["latency"][key]) == {"p50", "p95", "p99"}
    assert document["latency"]["s2_age_s"]["p50"] >= 0.2
    assert [one["seed"] for one in document["details"]] == [100_000, 100_001, 100_002]
    assert document["workers"] == 1 and document["episodes_per_minute"] > 0
    printed = capsys.readouterr()
    assert f"{document['episodes_per_minute']:.1f} episodes a minute, 1 at a time" in printed.out
    assert "lift" in printed.out and "100.0 %" in printed.out and printed.err == ""


def test_without_thoughts_s2_is_not_asked(expert_anywhere):
    document = evaluate(
        "expert", "tabletop", 1, 100_000, EvalOptions(task="lift", variant="no-thoughts"), loaded=expert_anywhere
    )
    assert document["latency"]["s2_ms"]["p50"] is None


def test_the_report_is_one_file_that_needs_no_other(expert_anywhere, tmp_path):
    evaluate(
        "expert", "tabletop", 2, 100_000, EvalOptions(report=tmp_path / "r", perturb=("swap",)), loaded=expert_anywhere
    )
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["report.html"]
    html = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', html)
    assert sources and all(source.startswith("data:") for source in sources)
    assert not re.search(r"url\(|@import|<script", html)
    assert html.count("<video") == 2 and html.count("<img") == 2 and html.count("<svg") == 5
    assert "prefers-color-scheme: dark" in html and "instead of:" in html


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episodes": 0}, "--episodes is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"workers": 0}, "--workers is 0"),
        ({"env": "tabeltop"}, "did you mean tabletop"),
        ({"policy": "no-such-policy"}, "no-such-policy"),
        ({"options": EvalOptions(task="fold")}, "unknown task"),
        ({"episodes": 4, "options": EvalOptions(repeats=3)}, "--episodes is 4: give a multiple of --repeats 3"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(change, message):
    arguments = {"policy": "tabletop", "env": "tabletop", "episodes": 1, "seed": 0} | change
    with pytest.raises(UserError) as refused:
        evaluate(**arguments)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_an_unwritable_report_folder_is_refused_before_anything_runs(expert_anywhere, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--report"):
        evaluate("expert", "tabletop", 1, 0, EvalOptions(report=tmp_path / "file" / "r"), loaded=expert_anywhere)


def test_rollout_films_one_episode(expert_anywhere, tmp_path, capsys):
    result = rollout("expert", seed=100_000, video=tmp_path / "out" / "a.mp4", loaded=expert_anywhere)
    assert result.success
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.mp4"]
    assert result.instruction in capsys.readouterr().out


def test_rollout_ends_after_the_seconds_that_are_given(expert_anywhere, tmp_path):
    assert rollout("expert", seed=100_000, loaded=expert_anywhere, seconds=0.5).steps == 10


def test_the_demo_leaves_a_video_and_a_report(expert_anywhere, tmp_path, capsys):
    document = demo("expert", tmp_path / "demo", episodes=2, loaded=expert_anywhere)
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["report.html", "rollout.mp4"]
    lines = capsys.readouterr().out.splitlines()
    for index, detail in enumerate(document["details"]):
        assert detail["instruction"] in lines[index] and "S2: “the " in lines[index]


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_describing_what_is_no_picture_is_refused(content, tmp_path, expert_anywhere):
    from vla.evaluation.describe import read_image

    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is no picture"):
        read_image(path, 96, 96)
    with pytest.raises(UserError, match="cannot read"):
        read_image(tmp_path / "missing.png", 96, 96)
