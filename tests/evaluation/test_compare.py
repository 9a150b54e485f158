"""Two results over the same episodes, paired; groups of tasks and failures first in what is shown."""

import json

import pytest

from vla.errors import UserError
from vla.evaluation.compare import Wanted, compare, read_other
from vla.evaluation.console import print_summary
from vla.evaluation.episode import EpisodeResult
from vla.evaluation.evaluate import EvalOptions, make_document
from vla.evaluation.paired import paired_difference
from vla.evaluation.report import write_report
from vla.robots.gym_sim import find_environment

TASKS = ("reach-v3", "push-v3", "hammer-v3", "assembly-v3")
GROUPS = find_environment("metaworld").groups


def results(successes: str) -> list[EpisodeResult]:
    """One episode per character, "1" a success; the tasks take turns."""
    return [
        EpisodeResult(
            index=i, seed=i, family=TASKS[i % 4], split="train", instruction=f"do {i}", original=None,
            success=one == "1", steps=10 + i, words=None, s1_ms=[1.0], s2_ms=[1.0], s2_age_s=[0.1], counts={},
        )
        for i, one in enumerate(successes)
    ]  # fmt: skip


def document(successes: str, policy: str = "ours") -> dict:
    return make_document(policy, "metaworld", 0, results(successes), EvalOptions())


def test_groups_pool_their_tasks_and_their_mean_counts_each_the_same():
    made = document("11000100")
    rates = {name: group["success_rate"] for name, group in made["per_group"].items()}
    # reach (easy): 1 of 2; hammer (medium): 0 of 2; push and assembly (hard): 2 of 4.
    assert rates == {"easy": 0.5, "medium": 0.0, "hard": 0.5}
    assert made["group_mean"] == pytest.approx(1 / 3)
    assert made["per_task"]["push-v3"]["success_rate"] == 1.0
    lone = make_document("ours", "tabletop", 0, results("1"), EvalOptions())
    assert lone["per_group"] == {} and lone["group_mean"] is None


def test_repeats_are_runs_of_consecutive_seeds_with_their_mean_and_spread(tmp_path, capsys):
    three = EvalOptions(repeats=3)
    made = make_document("ours", "metaworld-mt10", 0, results("111110101100"), three)
    spread = {"mean": pytest.approx(2 / 3), "std": pytest.approx(12**-0.5)}
    assert made["repeats"] == {"rates": [1.0, 0.5, 0.5], **spread}
    print_summary(made)
    write_report(tmp_path / "report.html", made, results("111110101100"), None)
    said = "success in 3 repeats: 100.0, 50.0, 50.0 %; mean 66.7, standard deviation 28.9 points"
    assert said in capsys.readouterr().out and said in (tmp_path / "report.html").read_text()
    # Of each run of reach, push, hammer and assembly: reach and hammer are a group each, push and assembly half of one.
    grouped = make_document("ours", "metaworld", 0, results("111110101100"), three)
    assert grouped["repeats"]["rates"] == [1.0, pytest.approx(2 / 3), 0.5]
    assert "repeats" not in document("1111")


def test_the_difference_is_that_of_pairs_with_its_interval():
    ours, theirs = document("11110000"), document("10100010")
    compared = compare(ours, theirs, GROUPS)
    found = paired_difference([c == "1" for c in "11110000"], [c == "1" for c in "10100010"])
    assert compared["all"]["difference"] == pytest.approx(found.value)
    assert compared["all"]["ci95"] == [found.low, found.high]
    assert (compared["all"]["won"], compared["all"]["lost"]) == (2, 1)
    assert sum(group["episodes"] for group in compared["per_group"].values()) == 8


def test_only_the_same_episodes_can_be_paired(tmp_path):
    file = tmp_path / "other.json"
    file.write_text(json.dumps(document("1010")))
    wanted = {"env": "metaworld", "seed": 0, "episodes": 4, "task": "all", "split": "all"}
    wanted |= {"swap": False, "paraphrase": False}
    assert read_other(file, Wanted(**wanted))["policy"] == "ours"
    changes = (
        ({"seed": 5}, "seed 0, now 5"),
        ({"task": "easy"}, "task 'all', now 'easy'"),
        ({"paraphrase": True}, "paraphrase False, now True"),
    )
    for change, said in changes:
        with pytest.raises(UserError, match=said):
            read_other(file, Wanted(**{**wanted, **change}))


def test_an_older_result_says_apart_whether_words_were_swapped(tmp_path):
    made, file = document("1010"), tmp_path / "other.json"
    del made["options"]["perturb"]
    made["options"]["swap"] = True
    file.write_text(json.dumps(made))
    assert read_other(file, Wanted("metaworld", 0, 4, "all", "all", True, False))["policy"] == "ours"
    with pytest.raises(UserError, match="swap True, now False"):
        read_other(file, Wanted("metaworld", 0, 4, "all", "all", False, False))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"env": "metaworld"}', "\xff"])
def test_what_is_no_result_is_refused(tmp_path, content):
    file = tmp_path / "other.json"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match="is no result of vla eval --json"):
        read_other(file, Wanted("metaworld", 0, 4, "all", "all", False, False))


def test_the_report_shows_groups_the_comparison_and_failures_first(tmp_path):
    made = document("1101")
    made["compared"] = compare(made, document("1000", "theirs"), GROUPS)
    for index in range(4):
        (tmp_path / f"episode-{index:05d}.jpg").write_bytes(b"picture")
    write_report(tmp_path / "report.html", made, results("1101"), tmp_path)
    page = (tmp_path / "report.html").read_text()
    order = ["mean of the groups", "Beside theirs", "<h2>Failures", "<h2>Measurements", "<h2>Successes", "<h2>Episodes"]
    assert [page.index(part) for part in order] == sorted(page.index(part) for part in order)
    listed = page[page.index("<h2>Episodes") :]
    assert listed.index("do 2") < listed.index("do 0") < listed.index("do 3")
