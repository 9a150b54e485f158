"""`vla data import hdf5`: files of LIBERO and ALOHA become a LeRobot dataset, whole or not at all."""

import re

import h5py
import numpy as np
import pytest
import yaml
from hdf5_writer import aloha_episode, compressed, libero_demo, picture, pictures, write_aloha, write_libero
from imported import column, dataset, run_import
from killed_import import kill_import

from vla import assets
from vla.data.card import Card
from vla.data.convert import convert
from vla.data.hdf5.importer import Hdf5Source
from vla.data.hdf5.layout import find_episodes
from vla.errors import UserError
from vla.spec import RobotSpec

NUMBERS = (0, 2, 10)
"""Of the demos; as text, 10 would come before 2."""
STATE = ("joint_states", "ee_pos", "ee_ori", "gripper_states")


def run(capfd, *argv):
    return run_import(capfd, "hdf5", *argv)


def tasks(read):
    names = {int(row.task_index): task for task, row in read.meta.tasks.iterrows()}
    return [names[int(index)] for index in read.hf_dataset["task_index"]]


@pytest.fixture
def card(tmp_path):
    """Writes a shipped card, changed, and returns its file."""

    def write(name, **changes):
        file = tmp_path / "mine.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(assets.find("card", name).read_text()) | changes))
        return file

    return write


@pytest.fixture
def libero(tmp_path):
    demos = {f"demo_{number}": libero_demo(number, 3 + number % 3) for number in NUMBERS}
    return write_libero(tmp_path / "stove_demo.hdf5", demos, masks={"train": ["demo_10", "demo_0"]})


@pytest.fixture
def aloha(tmp_path):
    folder = tmp_path / "sim_transfer_cube"
    folder.mkdir()
    for number in NUMBERS:
        write_aloha(folder / f"episode_{number}.hdf5", number, 3 + number % 3)
    return folder


def test_a_file_of_libero_comes_back_from_lerobot_in_its_order_units_and_right_way_up(libero, tmp_path, capfd):
    out = tmp_path / "imported"
    code, printed, err = run(capfd, libero, "--card", "libero", "--out", out)
    assert (code, err) == (0, "") and printed == f"3 episodes, 9 steps in {out}\n"
    read = dataset(out)
    assert (read.num_episodes, read.fps, set(tasks(read))) == (3, 20, {"turn on the stove"})
    demos = [libero_demo(number, 3 + number % 3) for number in NUMBERS]
    state = [np.hstack([demo[f"obs/{key}"][:-1] for key in STATE]) for demo in demos]
    assert column(read, "observation.state").tobytes() == np.concatenate(state).astype(np.float32).tobytes()
    # What was seen lies beside the action before it: the first action goes, and so does what was seen last.
    action = np.concatenate([demo["actions"][1:] for demo in demos])
    expected = np.column_stack([0.05 * action[:, :3], 0.5 * action[:, 3:6], action[:, 6] < 0])
    assert np.allclose(column(read, "action"), expected, atol=1e-7)
    seen = 255 * read[2]["observation.images.front"].numpy().transpose(1, 2, 0)
    assert np.abs(seen - picture(2, 0)).mean() < 2
    spec = RobotSpec.load(out / "meta" / "robot_spec.yaml")
    assert (spec.name, spec.action.gripper) == ("libero_panda", "1 = open, 0 = closed")
    assert run(capfd, libero, "--card", "libero", "--out", out)[1] == f"3 episodes in {out} (they were there)\n"


def test_a_folder_of_aloha_comes_back_bit_for_bit_in_the_order_of_its_numbers(aloha, tmp_path, capfd):
    out = tmp_path / "imported"
    code, printed, err = run(capfd, aloha, "--card", "aloha_sim", "--out", out, "--instruction", "hand the cube over")
    assert (code, err) == (0, "") and printed == f"3 episodes, 12 steps in {out}\n"
    read = dataset(out)
    assert (read.num_episodes, read.fps, set(tasks(read))) == (3, 50, {"hand the cube over"})
    episodes = [aloha_episode(number, 3 + number % 3) for number in NUMBERS]
    for ours, theirs in (("observation.state", "observations/qpos"), ("action", "action")):
        assert column(read, ours).tobytes() == np.concatenate([one[theirs] for one in episodes]).tobytes()
    seen = 255 * read[3]["observation.images.front"].numpy().transpose(1, 2, 0)
    assert np.abs(seen - picture(2, 0)).mean() < 2
    assert RobotSpec.load(out / "meta" / "robot_spec.yaml").state == RobotSpec.load(assets.find("robot", "aloha")).state


def test_killed_and_started_again_it_completes(libero, tmp_path, capfd):
    out = tmp_path / "imported"
    shipped = assets.find("card", "libero")
    kill_import("from vla.data.hdf5.importer import import_hdf5 as run", [libero, shipped, out], tmp_path)
    assert not out.exists() and (tmp_path / "imported.partial").exists()
    code, printed, _ = run(capfd, libero, "--card", shipped, "--out", out)
    assert (code, printed) == (0, f"3 episodes, 9 steps in {out}\n") and not (tmp_path / "imported.partial").exists()
    joints = np.concatenate([libero_demo(number, 3 + number % 3)["obs/joint_states"][:-1] for number in NUMBERS])
    assert column(dataset(out), "observation.state")[:, :7].tobytes() == joints.astype(np.float32).tobytes()


def imported(path, card, split=None, instruction=""):
    """(task, states, actions, pictures of the front camera) of every passage."""
    source, card = Hdf5Source(path, find_episodes(path, split), split, instruction), Card.load(card)
    spec = source.robot_spec(card)
    return [
        (passage.task, passage.state, passage.action, [frame.images["front"] for frame in passage.frames()])
        for raw in source.read(0, source.episodes)
        for passage in convert(card, spec, raw).passages
    ]


def test_the_files_of_a_folder_keep_their_own_instructions(tmp_path):
    for number in (9, 10):
        write_libero(tmp_path / f"scene_{number}_demo.hdf5", {"demo_0": libero_demo(0, 3)}, f"task {number}")
    assert [task for task, *_ in imported(tmp_path, "libero")] == ["task 9", "task 10"]


@pytest.mark.parametrize("said", ['"turn on the stove"', ["turn on ", "the stove"]])
def test_instructions_that_libero_keeps_in_quotes_or_lists_are_plain_text(tmp_path, said):
    file = write_libero(tmp_path / "demo.hdf5", {"demo_0": libero_demo(0, 3)}, said)
    assert imported(file, "libero")[0][0] == "turn on the stove"


def test_a_mask_chooses_demos_in_the_order_of_their_numbers(libero):
    masked = imported(libero, "libero", split="train")
    expected = [libero_demo(number, 3 + number % 3)["actions"][1:, 6] < 0 for number in (0, 10)]
    assert [action[:, -1].tolist() for _, _, action, _ in masked] == [list(map(float, open)) for open in expected]


@pytest.mark.parametrize("stored", ["padded", "of their own lengths"])
def test_compressed_pictures_of_aloha_are_decoded_with_the_colours_the_card_says(tmp_path, card, stored):
    padded, lengths = compressed(1, 4)
    changes = {"observations/images/top": padded, "compress_len": lengths}
    file = write_aloha(tmp_path / "episode_0.hdf5", 1, 4, **changes)
    if stored != "padded":
        with h5py.File(file, "a") as handle:
            del handle["observations/images/top"]
            kind = h5py.vlen_dtype(np.uint8)
            dataset = handle.create_dataset("observations/images/top", 4, kind)
            for step, (row, length) in enumerate(zip(padded, lengths[0], strict=True)):
                dataset[step] = row[: int(length)]
    camera = {"name": "front", "key": "observations/images/top", "colour": "bgr"}
    ((_, _, _, seen),) = imported(file, card("aloha_sim", cameras=[camera]), instruction="go")
    assert np.abs(np.stack(seen).astype(int) - pictures(1, 4)).mean() < 2


def test_pictures_in_compressed_pieces_of_several_steps_come_back(tmp_path):
    file = write_aloha(tmp_path / "episode_0.hdf5", 1, 8)
    with h5py.File(file, "a") as handle:
        del handle["observations/images/top"]
        handle["observations/images"].create_dataset(
            "top", data=pictures(1, 8), chunks=(3, 20, 64, 3), compression="gzip"
        )
    ((_, _, _, seen),) = imported(file, "aloha_sim", instruction="go")
    assert np.array_equal(seen, pictures(1, 8))


def test_a_truth_value_may_be_an_attribute_or_a_dataset(libero, card):
    with h5py.File(libero, "a") as handle:
        for number, good in zip(NUMBERS, (True, False, True), strict=True):
            handle[f"data/demo_{number}"].attrs["success"] = good
            handle[f"data/demo_{number}/kept"] = number != 0
    assert len(imported(libero, card("libero", filters={"only_where": ["success"]}))) == 2
    assert len(imported(libero, card("libero", filters={"only_where": ["success", "kept"]}))) == 1


def edit(change):
    def damage(file):
        with h5py.File(file, "a") as handle:
            change(handle)

    return damage


def cut(file):
    file.write_bytes(file.read_bytes()[:-5000])


def scramble(file):
    """The bytes of a compressed piece are not what was written."""
    with h5py.File(file, "a") as handle:
        del handle["data/demo_2/actions"]
        rows = np.random.default_rng(0).normal(size=(5, 7))
        where = handle.create_dataset("data/demo_2/actions", data=rows, chunks=(5, 7), compression="gzip")
        piece = where.id.get_chunk_info(0)
    data = bytearray(file.read_bytes())
    data[piece.byte_offset + 4 : piece.byte_offset + 20] = bytes(16)
    file.write_bytes(data)


def put(key, values):
    def change(handle):
        del handle[key]
        handle[key] = values

    return edit(change)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "stove_demo.hdf5 cannot be read: truncated file"),
        (lambda file: file.write_text("demo"), "stove_demo.hdf5 cannot be read: file signature not found"),
        (edit(lambda h: h.pop("data/demo_0/actions")), "hdf5, /data/demo_0/actions: no such dataset; there"),
        (put("data/demo_0/obs/ee_pos", np.zeros((3, 2))), "ee_position comes out with 2 entries, the card says 3"),
        (put("data/demo_0/obs/ee_pos", "text"), "/data/demo_0: obs/ee_pos is not numbers"),
        (put("data/demo_0/obs/agentview_rgb", np.zeros((3, 9))), "/data/demo_0: obs/agentview_rgb is no pictures"),
        (edit(lambda h: h["data"].attrs.pop("problem_info")), "says problem_info/language_instruction.*--inst"),
        (edit(lambda h: h["data"].attrs.update(problem_info="{}")), "problem_info of /data is not JSON with language"),
        (edit(lambda h: h["data"].attrs.update(macros_image_convention="opencv")), "opencv, so .* stored upright"),
        (edit(lambda h: [h.pop(f"data/demo_{n}") for n in NUMBERS]), "holds no episodes"),
        (edit(lambda h: h.pop("data")), "stove_demo.hdf5, /obs/joint_states: no such dataset; there are: mask/train"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_leaves_nothing_behind(libero, tmp_path, capfd, damage, message):
    damage(libero)
    code, printed, err = run(capfd, libero, "--card", "libero", "--out", tmp_path / "imported")
    assert code == 2 and printed == "" and err.count("\n") == 1, err
    assert (err.startswith("vla: ") and "stove_demo.hdf5" in err) or "card libero" in err
    assert re.search(message, err), err
    assert not list(tmp_path.glob("imported*"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (scramble, "/data/demo_2/actions cannot be read: "),
        (put("data/demo_2/actions", np.zeros((4, 7))), "/data/demo_2: steps of differing number: .*actions 4"),
        (put("data/demo_2/obs/ee_pos", np.full((5, 3), np.nan)), "/data/demo_2: state ee_position is not a finite"),
        (edit(lambda h: h.pop("data/demo_2/obs/ee_ori")), "/data/demo_2/obs/ee_ori: no such dataset"),
    ],
)
def test_damage_further_on_is_named_by_file_and_path(libero, damage, message):
    damage(libero)
    with pytest.raises(UserError, match=f"hdf5: .*stove_demo.hdf5, {message}"):
        imported(libero, "libero")


def test_a_mask_that_is_not_there_is_told_with_those_that_are(libero, aloha, tmp_path, capfd):
    code, _, err = run(capfd, libero, "--card", "libero", "--out", tmp_path / "imported", "--split", "valid")
    assert code == 2 and err.endswith("stove_demo.hdf5 has no mask 'valid'; it has train\n")
    code, _, err = run(capfd, aloha, "--card", "aloha_sim", "--out", tmp_path / "imported", "--split", "valid")
    assert code == 2 and err.endswith("episode_0.hdf5 is one episode and has no mask 'valid'\n")


def test_a_folder_without_files_names_those_inside_it_that_have_some(aloha, tmp_path, capfd):
    code, _, err = run(capfd, tmp_path, "--card", "aloha_sim", "--out", tmp_path / "imported")
    assert code == 2 and err.endswith("has no .hdf5 files; give a folder inside it: sim_transfer_cube\n")


def test_an_instruction_that_nothing_says_is_asked_for(aloha, tmp_path, capfd):
    code, _, err = run(capfd, aloha, "--card", "aloha_sim", "--out", tmp_path / "imported")
    assert (code == 2 and "give --instruction" in err) or ("with --instruction TEXT" in err and err.count("\n") == 1)


def test_a_picture_of_another_size_is_named_by_step_and_camera(aloha, tmp_path, capfd):
    write_aloha(aloha / "episode_3.hdf5", 3, 2, **{"observations/images/top": np.zeros((2, 8, 8, 3), np.uint8)})
    out = tmp_path / "imported"
    code, _, err = run(capfd, aloha, "--card", "aloha_sim", "--out", out, "--instruction", "go")
    assert code == 2 and "episode_3.hdf5: step 0, camera front: a picture of 8x8, " in err and not out.exists()
