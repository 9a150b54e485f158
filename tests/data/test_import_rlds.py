"""`vla data import rlds`: a TFDS directory becomes a LeRobot dataset, whole or not at all."""

import re
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from imported import column, dataset, run_import
from killed_import import kill_import
from tfds_writer import TEXT, encode, example, image, nested, sequence, tensor, write_directory

from vla.cli import main
from vla.data.card import Card
from vla.data.convert import convert
from vla.data.rlds.directory import TfdsDirectory
from vla.data.rlds.importer import RldsSource
from vla.errors import UserError
from vla.spec import RobotSpec

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "open_x" / "bridge_dataset" / "1.0.0"

FEATURES = nested(
    success=tensor("bool"),
    steps=sequence(
        nested(
            observation=nested(
                state=tensor("float32", 4),
                png=image(48, 64, "png"),
                jpeg=image(48, 64, "jpeg"),
                spelled=tensor("int32", 16),
            ),
            action=nested(move=tensor("float32", 3), close=tensor("float32")),
            language_instruction=TEXT,
        )
    ),
)
CARD = {
    "name": "toy",
    "robot": "toy_arm",
    "verified": True,
    "source": {"url": "here", "features": "this test", "licence": "none"},
    "rate_hz": 5,
    "cameras": [
        {"name": "front", "key": "observation/png", "size": [48, 64]},
        {"name": "wrist", "key": "observation/jpeg", "mount": "wrist"},
    ],
    "state": [
        {"name": "ee_position", "size": 3, "unit": "m", "keys": ["observation/state"], "do": [{"select": [0, 1, 2]}]},
        {"name": "gripper", "size": 1, "unit": "1", "keys": ["observation/state"], "do": [{"select": [3]}]},
    ],
    "action": {
        "mode": "ee_delta",
        "gripper": "1 = open, 0 = closed",
        "fields": [
            {"name": "ee_translation", "size": 3, "unit": "m", "keys": ["action/move"]},
            {"name": "gripper", "size": 1, "unit": "1", "keys": ["action/close"], "do": ["invert"], "range": [0, 1]},
        ],
    },
    "instruction": ["language_instruction", "observation/spelled"],
}


def steps_of(number, length, words=None, success=True):
    rng = np.random.default_rng(number)
    ramp = np.linspace(0, 100, 64)
    pictures = [
        np.uint8(np.broadcast_to(ramp[None, :, None] + [0, 10 * number, step], (48, 64, 3))) for step in range(length)
    ]
    spelled = np.zeros((length, 16), np.int32)
    spelled[:, :7] = list(b"spelled")
    return {
        "success": [int(success)],
        "steps/observation/state": rng.normal(size=(length, 4)).astype(np.float32),
        "steps/observation/png": [encode(picture, "png") for picture in pictures],
        "steps/observation/jpeg": [encode(picture, "jpeg") for picture in pictures],
        "steps/observation/spelled": spelled,
        "steps/action/move": rng.normal(size=(length, 3)).astype(np.float32),
        "steps/action/close": rng.integers(0, 2, length).astype(np.float32),
        "steps/language_instruction": words or [f"task {number}"] * length,
    }


EPISODES = [steps_of(number, 3 + number) for number in range(4)]


@pytest.fixture
def toy(tmp_path):
    records = [example(episode) for episode in EPISODES]
    return write_directory(tmp_path / "toy" / "1.0.0", FEATURES, {"train": [records[:3], records[3:]]})


@pytest.fixture
def card(tmp_path):
    """Writes the card, changed, and returns its file."""

    def write(**changes):
        file = tmp_path / "toy.yaml"
        file.write_text(yaml.safe_dump(CARD | changes))
        return file

    return write


def run(capfd, *argv):
    return run_import(capfd, "rlds", *argv)


def test_a_directory_comes_back_from_lerobot_as_it_was_written(toy, card, tmp_path, capfd):
    out = tmp_path / "imported"
    code, printed, err = run(capfd, toy, "--card", card(), "--out", out)
    assert (code, err) == (0, "") and printed == f"4 episodes, 18 steps in {out}\n"
    assert not out.with_name("imported.partial").exists()
    read = dataset(out)
    assert (read.num_episodes, read.num_frames, read.fps) == (4, 18, 5)
    state = np.concatenate([episode["steps/observation/state"] for episode in EPISODES])
    move = np.concatenate([episode["steps/action/move"] for episode in EPISODES])
    close = np.concatenate([episode["steps/action/close"] for episode in EPISODES])
    assert column(read, "observation.state").tobytes() == state.tobytes()
    assert column(read, "action").tobytes() == np.column_stack([move, 1 - close]).tobytes()
    row = read[3]
    assert row["task"] == "task 1" and "subtask" not in row
    seen = 255 * row["observation.images.front"].numpy().transpose(1, 2, 0)
    expected = np.broadcast_to(np.linspace(0, 100, 64)[None, :, None] + [0, 10, 0], (48, 64, 3))
    assert np.abs(seen - expected).mean() < 2
    spec = RobotSpec.load(out / "meta" / "robot_spec.yaml")
    assert spec.name == "toy_arm" and spec.cameras[1].mount == "wrist"
    assert yaml.safe_load((out / "meta" / "card.yaml").read_text())["source"]["licence"] == "none"
    # The same again does nothing; another card is refused.
    assert run(capfd, toy, "--card", card(), "--out", out)[:2] == (0, f"4 episodes in {out} (they were there)\n")
    code, _, err = run(capfd, toy, "--card", card(robot="other"), "--out", out)
    assert code == 2 and "import: " in err and "already holds other data (card_sha256" in err


def test_killed_and_started_again_it_completes(toy, card, tmp_path, capfd):
    out, file = tmp_path / "imported", card()
    kill_import("from vla.data.rlds.importer import import_rlds as run", [toy, file, out], tmp_path)
    assert not out.exists() and (tmp_path / "imported.partial").exists()
    code, printed, _ = run(capfd, toy, "--card", file, "--out", out)
    assert (code, printed) == (0, f"4 episodes, 18 steps in {out}\n") and not (tmp_path / "imported.partial").exists()
    state = np.concatenate([episode["steps/observation/state"] for episode in EPISODES])
    assert column(dataset(out), "observation.state").tobytes() == state.tobytes()


def flip(root):
    file = root / "toy-train.tfrecord-00000-of-00002"
    data = bytearray(file.read_bytes())
    data[2000] ^= 1
    file.write_bytes(data)


def cut(root):
    file = root / "toy-train.tfrecord-00000-of-00002"
    file.write_bytes(file.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip, "toy-train.tfrecord-00000-of-00002 is damaged at byte 0: "),
        (cut, "toy-train.tfrecord-00000-of-00002 is cut off at byte 1000: "),
        (lambda root: (root / "features.json").unlink(), "features.json does not exist"),
        (lambda root: (root / "toy-train.tfrecord-00001-of-00002").unlink(), "00001-of-00002 is missing"),
    ],
)
def test_damage_is_one_line_and_leaves_nothing_behind(toy, card, tmp_path, capfd, damage, message):
    damage(toy)
    code, printed, err = run(capfd, toy, "--card", card(), "--out", tmp_path / "imported")
    assert code == 2 and printed == "" and message in err, err
    assert err.startswith("vla: rlds: ") and err.count("\n") == 1
    assert not list(tmp_path.glob("imported*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instruction": ["words"]}, r"has no feature steps/words; it has .*steps/language_instruction"),
        ({"cameras": [{"name": "front", "key": "observation/state"}]}, "steps/observation/state of .* is no image"),
        ({"state": [CARD["state"][0] | {"do": []}]}, "ee_position comes out with 4 entries, the card says 3"),
        ({"state": [CARD["state"][0] | {"keys": ["language_instruction"]}]}, "is not numbers of one size per step"),
        ({"filters": {"only_where": ["failure"]}}, "has no feature failure"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_before_any_work(toy, card, tmp_path, capfd, changes, message):
    code, printed, err = run(capfd, toy, "--card", card(**changes), "--out", tmp_path / "imported")
    assert code == 2 and printed == "" and err.count("\n") == 1, err
    assert re.search(message, err), err
    assert not list(tmp_path.glob("imported*"))


def test_an_output_that_cannot_be_written_is_one_line(toy, card, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    code, _, err = run(capfd, toy, "--card", card(), "--out", tmp_path / "file" / "imported")
    assert code == 2 and "cannot write to" in err and err.count("\n") == 1


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing_behind(toy, card, tmp_path, capfd):
    """No file may grow beyond a few kilobytes, which the first video does."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limit[1]))
    try:
        code = main(
            [
                "data",
                "import",
                "rlds",
                str(toy),
                "--card",
                str(card()),
                "--out",
                str(tmp_path / "imported"),
                "--workers",
                "1",
            ]
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    err = capfd.readouterr().err
    assert code == 2 and "import: cannot write to" in err and err.count("\n") == 1, err
    assert not list(tmp_path.glob("imported*"))


def converted(tmp_path, card, *episodes):
    root = write_directory(tmp_path / "some", FEATURES, {"train": [[example(episode) for episode in episodes]]})
    source, card = RldsSource(TfdsDirectory.open(root)), Card.load(card)
    spec = source.robot_spec(card)
    return [convert(card, spec, raw) for raw in source.read(0, source.episodes)]


def test_an_instruction_that_changes_makes_another_episode(tmp_path, card):
    (one,) = converted(tmp_path, card(), steps_of(0, 4, ["push", "push", "lift", "lift"]))
    assert [(passage.task, len(passage)) for passage in one.passages] == [("push", 2), ("lift", 2)]


def test_an_instruction_that_is_empty_gives_way_to_the_next_key_even_one_of_numbers(tmp_path, card):
    (one,) = converted(tmp_path, card(), steps_of(0, 2, ["", " "]))
    assert [passage.task for passage in one.passages] == ["spelled"]


def test_filters_leave_steps_and_episodes_out(tmp_path, card):
    file = card(
        filters={"skip_first": 1, "only_where": ["success"], "with_instruction": True},
        instruction=["language_instruction"],
    )
    kept, failed, wordless = converted(
        tmp_path, file, steps_of(0, 3), steps_of(1, 3, success=False), steps_of(2, 3, ["", "", ""])
    )
    assert len(kept.passages[0]) == 2 and not failed.passages and not wordless.passages
    assert np.array_equal(kept.passages[0].state[0], steps_of(0, 3)["steps/observation/state"][1])


def test_deltas_of_reached_states_shorten_the_episode_by_its_last_step(tmp_path, card):
    move = {"name": "ee_translation", "size": 3, "unit": "m", "keys": ["observation/state"]}
    move["do"] = [{"select": [0, 1, 2]}, "relabel_from_reached_state"]
    (one,) = converted(tmp_path, card(action={"mode": "ee_delta", "fields": [move]}), steps_of(0, 4))
    state = steps_of(0, 4)["steps/observation/state"]
    assert np.allclose(one.passages[0].action, np.diff(state[:, :3], axis=0))


def test_values_beyond_the_range_of_the_card_are_told(tmp_path, card):
    strange = steps_of(0, 3) | {"steps/action/close": np.array([-1, 0, 1], np.float32)}
    usual, odd = converted(tmp_path, card(), steps_of(0, 3), strange)
    assert usual.out_of_range == () and odd.out_of_range == ("action gripper",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps/action/close": np.zeros(2, np.float32)}, "steps of differing number: .*action/close 2"),
        ({"steps/action/move": np.full((3, 3), np.nan, np.float32)}, "ee_translation is not a finite number at step 0"),
        ({"steps/observation/png": ["no picture"] * 3}, "step 0, camera front: a picture that cannot be decoded"),
        ({"steps/observation/png": [encode(np.zeros((4, 4, 3), np.uint8), "png")] * 3}, "a picture of 4x4, .* 64x48"),
        ({"steps/language_instruction": [b"\xff"] * 3}, "the instruction is not UTF-8"),
    ],
)
def test_values_that_make_no_sense_are_named_by_shard_and_byte(tmp_path, card, change, message):
    with pytest.raises(UserError, match=rf"toy-train.tfrecord-00000-of-00001, byte 0: .*{message}"):
        for one in converted(tmp_path, card(), steps_of(0, 3) | change):
            list(one.passages[0].frames())


def test_an_unverified_card_is_warned_about_in_one_line(toy, card, tmp_path, capfd):
    flip(toy)  # the warning comes first; the import itself is another test's
    _, _, err = run(capfd, toy, "--card", card(verified=False), "--out", tmp_path / "imported")
    assert err.splitlines()[0] == "vla: card toy is not verified: check the imported data before use"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there")
def test_a_directory_that_tfds_wrote_is_imported_bit_for_bit(tmp_path, capfd):
    out = tmp_path / "bridge"
    code, printed, err = run(capfd, REAL, "--card", "bridge_dataset", "--out", out)
    assert (code, err) == (0, "") and printed.startswith("25 episodes, 250 steps in")
    read, directory = dataset(out), TfdsDirectory.open(REAL)
    stored = list(directory.read(0, directory.episodes))
    for key, path in (("observation.state", "steps/observation/state"), ("action", "steps/action")):
        assert column(read, key).tobytes() == np.concatenate([raw.read(path) for raw in stored]).tobytes()
    tasks = {int(row.task_index): task for task, row in read.meta.tasks.iterrows()}
    written = [words.decode() for raw in stored for words in raw.read("steps/language_instruction")]
    assert [tasks[int(index)] for index in read.hf_dataset["task_index"]] == written
    assert RobotSpec.load(out / "meta" / "robot_spec.yaml").camera("front").height == 64
