"""`vla data annotate`: words for recorded episodes are valid or not there, and nobody's words are overwritten."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from vla import assets
from vla.bench.doctor import synthetic_recording
from vla.cli import main
from vla.data.annotate import annotate
from vla.data.annotations import Annotation, QuestionAnswer, Source, Subtask, Words, read_annotations, write_annotations
from vla.data.annotators import SheetAnnotator, Unusable, read_answer
from vla.data.cache import build_cache
from vla.data.collect import collect
from vla.data.contact_sheet import MARK, contact_sheet
from vla.data.doctor.recording import Recording
from vla.data.staging import held
from vla.errors import UserError

sys.path.insert(0, str(Path(__file__).parent.parent / "s2"))  # for tiny_vlms.py

from tiny_vlms import write_vlm

FILE = Path("meta/annotations.jsonl")
VLM, PERSON = Source("vlm", "some/vlm", "1"), Source("person", "ada", "")
GOOD = {
    "instruction": "put the red block into the box",
    "subtasks": [{"start": 0, "stop": 0.5, "text": "reach"}, {"start": 0.5, "stop": 0.6, "text": "lift"}],
    "questions": [{"at": 0.2, "question": "what colour is the block?", "answer": "red"}],
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Four episodes of LeRobot's own writer: no columns of a simulator's."""
    return synthetic_recording(tmp_path_factory.mktemp("annotate") / "episodes", 4, 1, length=(20, 25))


@pytest.fixture
def dataset(recorded, tmp_path):
    return shutil.copytree(recorded, tmp_path / "episodes")


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    out = tmp_path_factory.mktemp("truth") / "episodes"
    collect("tabletop", 2, 40, out, None, 1, "all", 0)
    return out


def says(*answers: str):
    """An annotator whose VLM gives these answers in turn, and the questions it was asked."""
    asked: list[str] = []

    def ask(sheet, question: str) -> str:
        asked.append(question)
        return answers[min(len(asked), len(answers)) - 1]

    return SheetAnnotator(ask, "front", count=4), asked


def lines(dataset) -> list[dict]:
    return [json.loads(line) for line in (dataset / FILE).read_text().splitlines()]


# --- answers ---------------------------------------------------------------------------------------------------------


def test_an_answer_is_found_in_whatever_is_written_around_it():
    words = read_answer(f"Sure!\n```json\n{json.dumps(GOOD)}\n```\nAnything else?", 1.0)
    assert words.instruction == GOOD["instruction"] and words.subtasks[1] == Subtask(0.5, 0.6, "lift")
    assert words.questions == (QuestionAnswer(0.2, "what colour is the block?", "red"),)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("I cannot see it", "no JSON object"),
        (json.dumps(GOOD)[:-9], "breaks off or is malformed at character"),
        pytest.param('{"a":' * 100_000, "recursion", id="deep"),
        ({**GOOD, "instruction": "  "}, "instruction is empty"),
        ({**GOOD, "instruction": ""}, "instruction is empty"),
        ({**GOOD, "instruction": 7}, "instruction must be text"),
        ({**GOOD, "instruction": "x" * 301}, "301 characters, at most 300"),
        ({**GOOD, "instruction": "lift\x1b[2Jit"}, "cannot be printed"),
        ({**GOOD, "confidence": 1}, "unknown key confidence"),
        ({"subtasks": []}, "instruction is missing"),
        (
            {**GOOD, "subtasks": [{"start": 0.5, "stop": 0.5, "text": "a"}]},
            r"subtasks\[0\].stop 0.5 does not come after",
        ),
        ({**GOOD, "subtasks": [{"start": -1, "stop": 0.5, "text": "a"}]}, "does not come after start -1"),
        ({**GOOD, "subtasks": [GOOD["subtasks"][1], GOOD["subtasks"][0]]}, r"subtasks\[1\] starts at 0 s, within"),
        ({**GOOD, "subtasks": [{"start": 0, "stop": 9, "text": "a"}]}, "speaks of 9 s, the episode lasts 1.0 s"),
        ({**GOOD, "subtasks": [{"start": 0, "stop": float("nan"), "text": "a"}]}, "does not come after"),
        pytest.param({**GOOD, "subtasks": [{"start": 0, "stop": 10**400, "text": "a"}]}, "too large", id="large"),
        ({**GOOD, "questions": [{"at": float("inf"), "question": "a", "answer": "b"}]}, "speaks of inf s"),
        ({**GOOD, "questions": [{"at": 0, "question": "a", "answer": ""}]}, r"questions\[0\].answer is empty"),
        ({**GOOD, "questions": {"at": 0}}, "questions must be a list"),
    ],
)
def test_an_answer_that_is_not_as_asked_for_is_refused_with_the_reason(answer, why):
    with pytest.raises(Unusable, match=why):
        read_answer(answer if isinstance(answer, str) else json.dumps(answer), 1.0)


def test_an_unusable_answer_is_asked_for_again_with_the_reason(dataset):
    annotator, asked = says("well", json.dumps(GOOD))
    done = annotate(Recording.open(dataset), annotator, VLM, episodes=[2])
    assert (done.annotated, done.skipped) == (1, ()) and len(asked) == 2
    assert "put the block away" in asked[0] and "could not be used" not in asked[0]
    assert "Your last answer could not be used: it holds no JSON object" in asked[1]
    (line,) = lines(dataset)
    assert line["episode"] == 2 and line["words"] == GOOD and line["recorded"] == "put the block away"
    assert line["source"] == {"kind": "vlm", "model": "some/vlm", "version": "1"}


def test_an_episode_without_a_usable_answer_is_skipped_with_the_reason_and_asked_another_model_later(dataset):
    annotator, asked = says("never")
    done = annotate(Recording.open(dataset), annotator, VLM)
    assert done.skipped == tuple((number, "it holds no JSON object") for number in range(4)) and len(asked) == 12
    assert [line["skipped"] for line in lines(dataset)] == ["it holds no JSON object"] * 4
    again, unasked = says(json.dumps(GOOD))
    assert annotate(Recording.open(dataset), again, VLM).kept == 4 and not unasked
    assert annotate(Recording.open(dataset), again, Source("vlm", "some/vlm", "2")).annotated == 4


# --- the file --------------------------------------------------------------------------------------------------------


def test_what_a_person_wrote_and_the_recorded_words_are_never_overwritten(dataset):
    mine = Annotation(1, int(Recording.open(dataset).episodes[1].stop - Recording.open(dataset).episodes[1].start),
                      "put the block away", PERSON, Words("hand it over"))  # fmt: skip
    write_annotations(dataset / FILE, [mine])
    before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    annotator, _ = says(json.dumps(GOOD))
    for _ in range(2):
        annotate(Recording.open(dataset), annotator, VLM, replace=True)
    assert read_annotations(dataset / FILE)[1] == mine
    assert [line["words"]["instruction"] for line in lines(dataset)].count(GOOD["instruction"]) == 3
    now = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    assert now.keys() == before.keys()
    assert [path.name for path in now if now[path] != before[path]] == ["annotations.jsonl"]


def test_an_interrupted_run_goes_on_where_it_was(dataset):
    seen = []

    def ask(sheet, question):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(question)
        return json.dumps(GOOD)

    with pytest.raises(KeyboardInterrupt):
        annotate(Recording.open(dataset), SheetAnnotator(ask, "front"), VLM)
    assert [line["episode"] for line in lines(dataset)] == [0, 1]
    annotator, asked = says(json.dumps(GOOD))
    assert annotate(Recording.open(dataset), annotator, VLM).kept == 2 and len(asked) == 2
    assert [line["episode"] for line in lines(dataset)] == [0, 1, 2, 3]
    assert not [path for path in (dataset / "meta").iterdir() if path.name.startswith(".")]


def test_two_runs_cannot_write_at_once(dataset):
    annotator, _ = says(json.dumps(GOOD))
    with held(dataset / "meta" / ".annotating", "annotate"), pytest.raises(UserError, match="another run is writing"):
        annotate(Recording.open(dataset), annotator, VLM)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "line 1: no JSON"),
        ('{"episode": NaN}', "NaN is no number"),
        ('{"episode": 0, "frames": 3, "recorded": "", "source": {"kind": "vlm"}}', "source.model is missing"),
    ],
)
def test_a_damaged_file_is_named_by_its_line_and_left_as_it_is(dataset, capsys, line, why):
    (dataset / FILE).write_text(line)
    assert main(["data", "annotate", str(dataset), "--vlm", str(dataset), "--camera", "front"]) == 2
    capsys.readouterr()
    annotator, _ = says(json.dumps(GOOD))
    with pytest.raises(UserError, match=why):
        annotate(Recording.open(dataset), annotator, VLM)
    assert (dataset / FILE).read_text() == line


def test_words_for_another_recording_are_found_out(dataset):
    write_annotations(dataset / FILE, [Annotation(0, 7, "", PERSON, Words("lift it"))])
    with pytest.raises(UserError, match="episode 0 of 7 frames, but it has 2"):
        build_cache(dataset)


def test_a_cache_knows_what_was_said_since_it_was_built(dataset):
    cache = build_cache(dataset)
    assert {episode.hindsight for episode in cache.episodes} == {""}
    annotator, _ = says(json.dumps(GOOD))
    annotate(Recording.open(dataset), annotator, VLM, episodes=[3])
    inode = (cache.folder / "meta.json").stat().st_ino
    renewed = build_cache(dataset)
    assert [episode.hindsight for episode in renewed.episodes] == ["", "", "", GOOD["instruction"]]
    assert [episode.task for episode in renewed.episodes] == ["put the block away"] * 4
    assert (cache.folder / "meta.json").stat().st_ino == inode  # decoded once


# --- who is asked ----------------------------------------------------------------------------------------------------


def test_the_contact_sheet_shows_every_picture_in_order_under_its_time():
    pictures = [np.full((40, 60, 3), value, np.uint8) for value in (10, 60, 110, 160, 210)]
    sheet = contact_sheet(pictures, [0.0, 0.5, 1.0, 1.5, 2.0])
    height, width = (sheet.shape[0] - 4) // 2, (sheet.shape[1] - 4) // 3
    for index, value in enumerate((10, 60, 110, 160, 210)):
        top, left = 4 + index // 3 * height, 4 + index % 3 * width
        assert (sheet[top + MARK + 2 : top + height - 6, left + 2 : left + width - 6] == value).all()
        assert sheet[top : top + MARK, left : left + width].min() < 100  # its time
    assert (sheet[4 + height :, 8 + 2 * width :] == 255).all()


def test_the_truth_of_the_simulator_names_steps_and_answers(collected, tmp_path):
    dataset = shutil.copytree(collected, tmp_path / "episodes")
    assert main(["data", "annotate", str(dataset), "--truth"]) == 0
    episodes, said = build_cache(dataset).episodes, read_annotations(dataset / FILE)
    for number, episode in enumerate(episodes):
        words = said[number].words
        assert words.instruction == episode.task == episode.hindsight and said[number].source.kind == "truth"
        assert [(one.start, one.text) for one in words.subtasks] == [(a / 20, text) for a, _, text in episode.subtasks]
        assert words.questions[-1].answer == "yes"
        assert any("percent from the left" in one.answer for one in words.questions)


def test_a_failed_episode_is_not_said_to_have_done_what_it_was_told(collected, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    dataset = shutil.copytree(collected, tmp_path / "episodes")
    (file,) = (dataset / "data").rglob("*.parquet")
    table = pq.read_table(file)
    place = table.column_names.index("next.success")
    pq.write_table(table.set_column(place, "next.success", pa.array([False] * len(table))), file)
    assert main(["data", "annotate", str(dataset), "--truth"]) == 0
    for one in read_annotations(dataset / FILE).values():
        assert one.instruction == "" and one.words.subtasks and one.words.questions[-1].answer == "no"


def test_without_a_simulators_columns_there_is_no_truth(dataset, capsys):
    assert main(["data", "annotate", str(dataset), "--truth"]) == 2
    assert "no column subtask, so it was not recorded by vla collect; use --policy or --vlm" in capsys.readouterr().err
    assert not (dataset / FILE).exists()


def test_a_policys_s2_says_what_it_sees_along_the_way(collected, tmp_path, capsys):
    dataset = shutil.copytree(collected, tmp_path / "episodes")
    assert main(["data", "annotate", str(dataset), "--policy", "tabletop-suite", "--every", "1"]) == 0
    for one in read_annotations(dataset / FILE).values():
        assert one.source.model == "tabletop-suite" and one.source.version.startswith("sha256:")
        assert one.words.instruction == "" and one.words.subtasks and "<loc" not in str(one.words)
        assert one.words.end <= one.frames / 20 + 1e-6
    assert "2 episodes annotated, 0 skipped" in capsys.readouterr().out


def test_a_vlm_that_talks_nonsense_leaves_nothing_invalid_and_every_reason(dataset, tmp_path, capsys):
    vlm = write_vlm("llava", tmp_path / "vlm")
    asked = ["data", "annotate", str(dataset), "--vlm", str(vlm), "--tokens", "4", "--tries", "2", "--frames", "2"]
    assert main([*asked, "--episodes", "0", "1"]) == 1
    captured = capsys.readouterr()
    assert "episode 0 skipped: it holds no JSON object" in captured.err
    assert "0 episodes annotated, 2 skipped" in captured.out
    said = read_annotations(dataset / FILE)
    assert [one.skipped for one in said.values()] == ["it holds no JSON object"] * 2
    assert said[0].source.version.startswith("sha256:")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--vlm", "/nowhere"], "no such folder"),
        (["--vlm", "{vlm}", "--camera", "rear"], "no camera rear; it has front, wrist"),
        (["--policy", "nobody"], "unknown policy 'nobody'"),
        (["--vlm", "{small}"], "give the policy with --policy"),
    ],
)
def test_what_cannot_be_asked_is_said(dataset, capsys, tmp_path, options, why):
    small = assets.find("policy", "tabletop") / "s2"
    options = [option.format(vlm=tmp_path, small=small) for option in options]
    assert main(["data", "annotate", str(dataset), *options]) == 2
    assert why in capsys.readouterr().err and not (dataset / FILE).exists()


def test_an_episode_that_is_not_there_is_named(collected, tmp_path, capsys):
    assert main(["data", "annotate", str(collected), "--truth", "--episodes", "9"]) == 2
    assert "no episode 9; it has 2" in capsys.readouterr().err


def test_exactly_one_of_them_is_asked(dataset, capsys):
    for options in ([], ["--truth", "--policy", "tabletop"]):
        with pytest.raises(SystemExit) as stopped:
            main(["data", "annotate", str(dataset), *options])
        assert stopped.value.code == 2


def test_the_page_shows_what_was_said_and_by_whom(dataset, tmp_path):
    annotator, _ = says(json.dumps({**GOOD, "instruction": "put <b>it</b> away"}))
    annotate(Recording.open(dataset), annotator, VLM, episodes=[0])
    file = tmp_path / "page.html"
    assert main(["data", "view", str(dataset), "--html", str(file)]) == 0
    page = file.read_text()
    assert "put &lt;b&gt;it&lt;/b&gt; away" in page and "annotated by vlm some/vlm 1" in page
    assert "what colour is the block?" in page and "0.5 to 0.6 s" in page
    assert page.count("In hindsight") == 1
