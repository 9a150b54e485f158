"""`vla bench doctor` counts what is found of what it plants, by origin and size."""

from vla.bench.defects import DEFECTS
from vla.bench.doctor import plant_all, synthetic_recording, table, tally
from vla.cli import main


def test_faults_are_planted_at_every_size_and_the_found_ones_counted(tmp_path):
    root = synthetic_recording(tmp_path / "lerobot", 4, 0, length=(20, 24))
    chosen = [defect for defect in DEFECTS if defect.name in ("missing text", "NaN or inf", "robot spec")]
    trials = list(plant_all({"LeRobot": root}, 1, 0, tmp_path, chosen))
    # Without a robot spec there is nothing to contradict it.
    assert [(one.defect, one.size) for one in trials] == [
        (name, size) for name in ("NaN or inf", "missing text") for size in ("small", "middle", "large")
    ]
    assert all(one.found for one in trials)
    document = tally(trials, {"LeRobot": []})
    assert {row["value"] for row in document["rows"]} == {1.0}
    assert "| missing text | the episodes | 1/1 1/1 1/1 |" in table(document)
    assert "| robot spec | - | - |" in table(document)
    assert "Findings in the 1 clean datasets: none." in table(document)
    assert "LeRobot: jump, episode 3" in table(tally(trials, {"LeRobot": ["jump, episode 3"]}))


def test_the_table_goes_into_a_folder_that_was_not_there_yet(tmp_path, monkeypatch, capsys):
    document = tally([], {"LeRobot": []})
    monkeypatch.setattr("vla.bench.doctor.bench_doctor", lambda *_: document)
    file = tmp_path / "results" / "doctor.md"
    assert main(["bench", "doctor", "--table", str(file)]) == 0
    assert file.read_text() == table(document)
