"""What a study keeps of each of its conditions, and when it believes it."""

import json
import shutil

import pytest

from vla.bench.points import Points, devices, families_in_turn
from vla.errors import UserError
from vla.evaluation.episode import EpisodeResult
from vla.evaluation.setup import Setup


class Crew:
    """Everything succeeds; `played` counts the episodes."""

    played = 0

    def play(self, parts):
        for _, jobs in parts:
            for job in jobs:
                self.played += 1
                yield EpisodeResult(
                    index=job.index, seed=job.seed, family="lift", split="train", instruction="lift", original=None,
                    success=True, steps=1, words=None, s1_ms=[1.0], s2_ms=[2.0], s2_age_s=[], counts={},
                )  # fmt: skip


@pytest.fixture
def policy(untrained, tmp_path):
    """One whose weights may be changed."""
    return shutil.copytree(untrained, tmp_path / "policy")


def measure(folder, policy, crew, device="cpu", **asked):
    """Two conditions of one episode."""
    points = Points(folder, crew, device=device)
    parts = families_in_turn(Setup(str(policy), "tabletop"), ["lift"], 1, 0)
    return [points.measure(name, {"study": "mine"} | asked, parts) for name in ("one", "two")]


def test_what_is_known_is_read_and_not_played_again(policy, tmp_path):
    crew = Crew()
    first = measure(tmp_path / "points", policy, crew)
    assert (first[0].s1_ms["p50"], first[0].s2_ms["p50"]) == (1, 2)
    assert measure(tmp_path / "points", policy, crew) == first and crew.played == 2
    with pytest.raises(UserError, match="another study"):
        measure(tmp_path / "points", policy, crew, study="yours")


def test_a_study_that_went_on_elsewhere_names_all_its_devices(policy, tmp_path, monkeypatch):
    crew, points = Crew(), tmp_path / "points"
    measure(points, policy, crew, device="auto")
    (points / "two.json").unlink()
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert devices(measure(points, policy, crew, device="auto")) == "cpu and cuda" and crew.played == 3
    known = json.loads((points / "one.json").read_text())
    assert known.pop("device") == "cpu" and "device" not in known["asked"]
    (points / "one.json").write_text(json.dumps(known))
    assert devices(measure(points, policy, crew)) == "cuda and unknown" and crew.played == 3


def test_what_other_weights_did_is_measured_again(policy, tmp_path, capsys):
    crew = Crew()
    measure(tmp_path / "points", policy, crew)
    (policy / "s1.safetensors").write_bytes(b"trained on")
    for _ in range(2):
        measure(tmp_path / "points", policy, crew)
    assert crew.played == 4
    assert capsys.readouterr().out.count("other weights") == 2


def test_files_that_do_not_say_whose_weights_are_taken_as_they_are(policy, tmp_path, capsys):
    crew = Crew()
    measure(tmp_path / "points", policy, crew)
    for file in (tmp_path / "points").iterdir():
        known = json.loads(file.read_text())
        del known["asked"]["weights"]
        file.write_text(json.dumps(known))
    (policy / "s1.safetensors").write_bytes(b"trained on")
    measure(tmp_path / "points", policy, crew)
    assert crew.played == 2
    assert capsys.readouterr().out.count("taken as they are") == 1
