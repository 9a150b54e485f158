"""The experts' table can be made in parts."""

import json

import pytest

pytest.importorskip("metaworld")

from vla.bench.suites import ExpertCheck, bench_experts
from vla.errors import UserError


def test_a_task_that_is_done_is_only_read(tmp_path):
    check = ExpertCheck("metaworld", ("reach-v3",), 1, 100)
    first = bench_experts(check, 1, tmp_path)
    assert first["tasks"] == {"reach-v3": {"ours": [True], "theirs": [True]}}
    file = tmp_path / "points" / "drawer-close-v3.json"
    file.write_text(json.dumps({"asked": [1, 100], "ours": [True], "theirs": [False]}))
    both = ExpertCheck("metaworld", ("reach-v3", "drawer-close-v3"), 1, 100)
    assert bench_experts(both, 1, tmp_path)["tasks"]["drawer-close-v3"] == {"ours": [True], "theirs": [False]}
    page = (tmp_path / "experts.md").read_text()
    assert "| drawer-close-v3 | 1 | 0 | 0 of 1 |" in page and "| all 2 | 2 | 1 | |" in page
    with pytest.raises(UserError, match="other episodes"):
        bench_experts(ExpertCheck("metaworld", ("reach-v3",), 2, 100), 1, tmp_path)


def test_there_are_experts_of_metaworld_only(tmp_path):
    with pytest.raises(UserError, match="aloha has no experts of its own"):
        bench_experts(ExpertCheck("aloha", ("insertion",), 1, 0), 1, tmp_path)
