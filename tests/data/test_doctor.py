"""`vla data doctor` says nothing of clean data, and names what was planted, on disk, in data that LeRobot wrote."""

import json
import shutil

import numpy as np
import pytest

from vla.bench.defects import DEFECTS, Copy
from vla.bench.doctor import synthetic_recording, with_quaternions
from vla.cli import main
from vla.data.collect import EpisodeSettings, collect_episodes
from vla.data.doctor.compare import Agreement, compare
from vla.data.doctor.conventions import _usual_lag
from vla.data.doctor.examine import examine
from vla.data.doctor.motion import Pair
from vla.data.doctor.recording import Recording
from vla.data.doctor.replay import replay
from vla.errors import UserError

BY_NAME = {defect.name: defect for defect in DEFECTS}


@pytest.fixture(scope="module")
def tabletop(tmp_path_factory):
    out = tmp_path_factory.mktemp("doctor") / "tabletop"
    collect_episodes(EpisodeSettings("tabletop", 700, "all", None), 6, out, 1)
    return out


@pytest.fixture(scope="module")
def lerobot(tmp_path_factory):
    return synthetic_recording(tmp_path_factory.mktemp("doctor") / "lerobot", 6, 5, length=(30, 40))


def findings(root):
    return examine(Recording.open(root)).findings


def planted(source, target, name, severity, seed=0):
    copy = Copy(source, target)
    episodes = BY_NAME[name].plant(copy, severity, np.random.default_rng(seed))
    return copy.save(), episodes


def test_clean_data_has_no_findings(tabletop, lerobot):
    assert findings(tabletop) == ()
    assert findings(lerobot) == ()


def test_what_needs_a_spec_is_left_out_without_one_and_said(lerobot):
    assert "robot_spec.yaml" in examine(Recording.open(lerobot)).left_out["degrees"]


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("degrees", 1.0),
        ("inverted gripper", 1.0),
        ("lag", 1.0),
        ("stuck camera", 0.9),
        ("black camera", 0.1),
        ("duplicated frames", 0.5),
        ("timestamps", 0.1),
        ("NaN or inf", 0.1),
        ("jump", 1.0),
        ("stuck entry", 0.9),
        ("statistics", 0.1),
        ("missing text", 0.2),
        ("video frames", 0.5),
        ("robot spec", 0.5),
    ],
)
def test_a_planted_fault_is_found_in_the_episode_it_is_in(tabletop, tmp_path, name, severity):
    root, episodes = planted(tabletop, tmp_path / "copy", name, severity)
    hits = [one for one in findings(root) if one.kind in BY_NAME[name].kinds]
    assert hits
    assert any(not episodes or not one.episodes or episodes & set(one.episodes) for one in hits)
    assert all(one.message and one.where for one in hits)


def test_frames_that_are_missing_show_in_state_and_pictures_at_once(lerobot, tmp_path):
    copy = Copy(lerobot, tmp_path / "copy")
    speed = np.abs(np.diff(copy.column("observation.state"), axis=0)).sum(1)
    rows = copy.episodes[2]
    fast = rows.start + 8 + int(np.argmax(speed[rows.start + 8 : rows.stop - 12]))
    copy.select(np.delete(np.arange(len(copy.table)), np.arange(fast - 1, fast + 3)))
    (found,) = [one for one in findings(copy.save()) if one.kind == "dropped frames"]
    assert found.episodes == (2,)
    assert abs(rows.start + found.frame - fast) <= 3


def test_a_gripper_of_one_name_is_told_to_be_inverted_throughout_without_a_spec(lerobot, tmp_path):
    root, episodes = planted(lerobot, tmp_path / "copy", "inverted gripper", 1.0)
    (found,) = [one for one in findings(root) if one.kind == "gripper"]
    assert not found.episodes or set(found.episodes) <= episodes


def test_a_quaternion_that_begins_with_w_is_told_from_one_that_ends_with_it(tabletop, tmp_path):
    copy = Copy(tabletop, tmp_path / "quaternions")
    with_quaternions(copy)
    clean = copy.save()
    assert findings(clean) == ()
    root, _ = planted(clean, tmp_path / "copy", "quaternion order", 1.0)
    assert "quaternion order" in {one.kind for one in findings(root)}


def test_a_rotation_that_is_only_written_otherwise_is_no_jump(tabletop, tmp_path):
    """A quaternion is its own negative: from the middle of one episode on it is written so."""
    copy = Copy(tabletop, tmp_path / "quaternions")
    with_quaternions(copy)
    again = Copy(copy.save(), tmp_path / "copy")
    state, part = again.column("observation.state"), again.part("observation.state", "ee_rotation")
    rows = again.episodes[2]
    state[(rows.start + rows.stop) // 2 : rows.stop, part] *= -1
    again.put("observation.state", state)
    assert findings(again.save()) == ()


@pytest.mark.parametrize("said", [False, True])
def test_a_push_that_the_recording_tells_of_is_no_fault(tabletop, tmp_path, said):
    """The hand is 10 cm aside for some frames, at twice the speed the spec allows."""
    copy = Copy(tabletop, tmp_path / "copy")
    state, part = copy.column("observation.state"), copy.part("observation.state", "ee_position")
    start = copy.episodes[2].start + 8
    state[start : start + 6, part.start] += np.array([0.05, 0.1, 0.1, 0.1, 0.1, 0.05])
    copy.put("observation.state", state)
    pushed = np.zeros(len(copy.table), bool)
    pushed[start - 1 : start + 6] = said
    copy.table["disturbed"] = pushed
    assert {one.kind for one in findings(copy.save())} == (set() if said else {"jump"})


def test_colours_exchanged_in_one_episode_of_a_scene_that_stays_are_found(lerobot, tmp_path):
    root, episodes = planted(lerobot, tmp_path / "copy", "BGR", 0.2)
    (found,) = [one for one in findings(root) if one.kind == "colour order"]
    assert set(found.episodes) == episodes


def test_colours_exchanged_in_half_of_the_episodes_are_found_but_not_which_half(lerobot, tmp_path):
    root, _ = planted(lerobot, tmp_path / "copy", "BGR", 0.5)
    (found,) = [one for one in findings(root) if one.kind == "colour order"]
    assert found.episodes == () and "one of the two is BGR" in found.message


def test_the_command_leaves_with_1_and_writes_json_and_a_page_with_pictures(tabletop, tmp_path, capsys):
    root, (episode,) = planted(tabletop, tmp_path / "copy", "black camera", 0.5)
    asked = ["data", "doctor", str(root), "--json", str(tmp_path / "d.json"), "--page", str(tmp_path / "d.html")]
    assert main(asked) == 1
    said = capsys.readouterr().out
    assert f"black camera: episode {episode}, frame" in said
    (one,) = json.loads((tmp_path / "d.json").read_text())["findings"]
    assert (one["kind"], one["episodes"]) == ("black camera", [episode])
    page = (tmp_path / "d.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 5 and "<polyline" in page


def test_recorded_actions_replayed_lead_where_the_arm_went_and_mirrored_ones_do_not(tabletop, tmp_path, capsys):
    assert main(["data", "doctor", str(tabletop), "--replay", "--episodes", "2"]) == 0
    assert "the simulated tool is" in capsys.readouterr().out
    copy = Copy(tabletop, tmp_path / "copy")
    copy.put("action", copy.column("action") * np.array([-1, -1, 1, 1, 1, 1, 1]))
    assert main(["data", "doctor", str(copy.save()), "--replay", "--episodes", "2"]) == 1
    assert "do not lead where the robot went" in capsys.readouterr().out


def test_a_policy_is_compared_with_what_was_recorded(tabletop, tmp_path, capsys):
    asked = [
        "data",
        "doctor",
        str(tabletop),
        "--policy",
        "tabletop",
        "--episodes",
        "2",
        "--json",
        str(tmp_path / "d.json"),
    ]
    main(asked)
    error = json.loads((tmp_path / "d.json").read_text())["policy"]["error"]
    assert error["ee_translation"] < 0.8 and error["gripper"] < 0.8


def test_an_episode_that_was_broken_off_does_not_hide_that_all_states_are_late(tabletop, tmp_path):
    copy = Copy(tabletop, tmp_path / "short")
    copy.select(np.arange(copy.episodes[5].start + 8))
    short = copy.save()
    assert findings(short) == ()
    late = Copy(short, tmp_path / "late")
    state = late.column("observation.state")
    for rows in late.episodes.values():
        state[rows] = state[np.maximum(np.arange(rows.start, rows.stop) - 10, rows.start)]
    late.put("observation.state", state)
    says = [one.message for one in findings(late.save()) if one.kind == "lag"]
    assert any("the state is recorded late" in message for message in says)


def test_the_usual_lag_is_seen_beside_an_episode_of_four_frames():
    steps = {0: np.random.default_rng(0).normal(size=(60, 3)), 1: np.zeros((2, 3))}
    pair = Pair("joints and joints", "position", steps, {n: np.roll(x, 3, axis=0) for n, x in steps.items()}, 1)
    assert _usual_lag(pair) == 3


def test_without_pictures_there_is_nothing_to_compare_and_the_findings_are_told(tabletop, tmp_path, capsys):
    root = shutil.copytree(tabletop, tmp_path / "copy")
    shutil.rmtree(root / "videos")
    assert main(["data", "doctor", str(root), "--policy", "tabletop", "--json", str(tmp_path / "d.json")]) == 1
    said, err = capsys.readouterr()
    assert "policy: nothing to compare" in said and "video" in said, err
    assert json.loads((tmp_path / "d.json").read_text())["policy"]["error"] == {}


def test_numbers_that_are_not_finite_are_left_out_of_the_comparison(tabletop, tmp_path):
    recording = Recording.open(tabletop)
    copy = Copy(tabletop, tmp_path / "copy")
    state, action = copy.column("observation.state"), copy.column("action")
    state[recording.episodes[0].start] = np.inf
    action[recording.episodes[1].start + 1, 0] = np.nan
    for key, values in (("observation.state", state), ("action", action)):
        copy.put(key, values)

    def still(images, state, text):
        assert np.isfinite(state).all()
        return np.zeros((1, 7))

    whole, _ = compare(recording, still, 6)
    part, _ = compare(Recording.open(copy.save()), still, 6)
    assert part.moments == whole.moments - 1
    assert part.error == pytest.approx(whole.error, rel=0.2)


def test_data_that_lack_what_their_spec_promises_are_neither_compared_nor_replayed(tabletop, tmp_path):
    blind = Copy(tabletop, tmp_path / "blind")
    del blind.info["features"]["observation.images.wrist"]
    narrow = Copy(tabletop, tmp_path / "narrow")
    narrow.put("observation.state", narrow.column("observation.state")[:, 1:])
    narrow.info["features"]["observation.state"] |= {"shape": [16], "names": None}
    recordings = [Recording.open(copy.save()) for copy in (blind, narrow)]
    for recording in recordings:
        assert compare(recording, lambda *_: pytest.fail("it was asked"), 6) == (Agreement({}, {}, (), 0), [])
    assert replay(recordings[1], None, 6) == ([], [])


def test_where_nothing_is_finite_nothing_is_replayed_and_the_findings_are_told(tabletop, tmp_path, capsys):
    copy = Copy(tabletop, tmp_path / "copy")
    copy.put("action", np.full_like(copy.column("action"), np.nan))
    asked = ["--replay", "--policy", "tabletop", "--page", str(tmp_path / "d.html")]
    assert main(["data", "doctor", str(copy.save()), *asked]) == 1
    said = capsys.readouterr().out
    assert "replay: nothing to replay" in said and "policy: nothing to compare" in said and "NaN" in said
    assert "NaN" in (tmp_path / "d.html").read_text()


@pytest.mark.parametrize("asked", [("--replay",), ("--policy", "tabletop")])
def test_what_a_dataset_cannot_have_is_refused_before_its_pictures_are_read(lerobot, monkeypatch, capsys, asked):
    monkeypatch.setattr("vla.data.doctor.visit.examine", lambda *_: pytest.fail("they were read"))
    assert main(["data", "doctor", str(lerobot), *asked]) == 2
    assert "robot_spec.yaml" in capsys.readouterr().err


def test_a_folder_that_is_no_dataset_is_refused_in_one_line(tmp_path, lerobot, capsys):
    assert main(["data", "doctor", str(tmp_path)]) == 2
    assert "no meta/info.json" in capsys.readouterr().err
    copy = Copy(lerobot, tmp_path / "copy")
    root = copy.save()
    file = root / "data/chunk-000/file-000.parquet"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"data/chunk-000/file-000.parquet cannot be read"):
        Recording.open(root)
