"""What S2 says is judged by its words and by how near its places are, beside what a guess would get."""

import pytest

from vla.bench.words import Said, _once, bench_words
from vla.cli import main


def said(answer: str, truth: str, target=(0.5, 0.5)) -> Said:
    return Said({"answer": truth, "target": target}, answer)


def test_words_must_be_the_same_and_places_near():
    near = said("at <loc31><loc31> two", "at <loc32><loc32> two")
    assert near.right and near.distance(96) == pytest.approx(1.06, abs=0.01)
    assert not said("at <loc32><loc32> three", "at <loc32><loc32> two").right
    assert said("nothing", "at <loc32><loc32> two").distance(96) == 96


def test_progress_is_judged_by_its_distance():
    late = said("at <loc32><loc32> grasp it, 70 percent", "at <loc32><loc32> grasp it, 40 percent")
    assert late.right and late.progress_error == pytest.approx(0.3)
    assert said("yes", "yes").progress_error is None


def test_what_training_asks_twice_is_asked_once():
    told, step = {"kind": "instruction", "prompt": "lift it"}, {"kind": "subtask", "prompt": "lift it: what now?"}
    assert _once([told, dict(told), step]) == [told, step]


def test_the_shipped_s2_beats_a_guess_on_new_scenes(capsys):
    rows = {row["name"]: row for row in bench_words("tabletop-suite", "tabletop-suite", 12, 700, 1)["rows"]}
    assert {"caption", "attribute", "count", "relation", "existence-adversarial"} <= set(rows)
    assert rows["existence"]["value"] > rows["existence"]["peer_value"]
    assert rows["pointing: place, median"]["value"] < 0.3 * rows["pointing: place, median"]["peer_value"]
    assert rows["existence-adversarial: said yes"]["value"] <= 0.2


def test_no_scenes_and_unknown_policies_are_refused(capsys):
    assert main(["bench", "words", "--policy", "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err
