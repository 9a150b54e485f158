"""Recording under way: what is kept is whole, whatever happens; what is lost is said."""

import errno
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from live_takes import NOTHING_RESERVED, TINY, fill, frame, record, victim

from vla.data.cache import FrameCache, build_cache
from vla.data.live import LiveRecorder
from vla.data.publish import live_folder, publish, recorded_takes
from vla.data.spool import read_frames, read_take
from vla.errors import UserError
from vla.spec import RobotSpec


def open_dataset(out: Path):
    from lerobot.datasets import LeRobotDataset

    return LeRobotDataset("local/live", root=out)


def test_takes_become_a_dataset_with_times_ages_labels_and_who_drove(tmp_path):
    out = tmp_path / "data"
    with LiveRecorder(out, TINY, NOTHING_RESERVED) as recorder:
        record(recorder, "lift it", 12, success=True)
        record(recorder, "push it", 8, success=False)
    assert publish(out, TINY) == 2
    dataset = open_dataset(out)
    assert (dataset.num_episodes, len(dataset)) == (2, 20)
    row = dataset[11]
    assert row["task"] == "lift it" and row["next.success"] and not dataset[10]["next.success"]
    assert (row["driver"], row["operator"], row["device"]) == ("policy", "operator", "device")
    assert not row["intervention"] and dataset[10]["intervention"]
    assert row["action"][0] == 1 and row["commanded"][0] == 2
    assert float(row["age.front"]) == pytest.approx(0.03) and float(row["age.state"]) == pytest.approx(0.01)
    assert float(row["time.front"]) == pytest.approx(11 / 20 - 0.03)
    assert float(row["observation.images.front"].mean()) * 255 == pytest.approx(55, abs=2)
    assert not any(dataset[index]["next.success"] for index in range(12, 20))
    assert not live_folder(out).exists()


def test_a_cache_knows_who_drove_also_one_that_was_built_before_caches_did(tmp_path):
    out = tmp_path / "data"
    with LiveRecorder(out, TINY, NOTHING_RESERVED) as recorder:
        record(recorder, "lift it", 6, success=True)
    publish(out, TINY)
    for _ in range(2):
        cache = build_cache(out)
        assert cache.person.tolist() == cache.intervention.tolist() == [1, 0, 1, 0, 1, 0]
        assert cache.success.tolist() == [0, 0, 0, 0, 0, 1]
        for name in ("person", "intervention", "success"):
            (cache.folder / f"{name}.npy").unlink()
        assert np.isnan(FrameCache.open(out).person).all()


def test_a_second_session_appends_and_leaves_what_was_there(tmp_path):
    out = tmp_path / "data"
    for session in range(2):
        with LiveRecorder(out, TINY, NOTHING_RESERVED) as recorder:
            record(recorder, f"task {session}", 6, success=True, mark=session)
        publish(out, TINY)
    dataset = open_dataset(out)
    assert [dataset[index]["task"] for index in (0, 6)] == ["task 0", "task 1"]
    assert [float(dataset[index]["observation.state"][0]) for index in (5, 6)] == [0, 1]
    assert [take["number"] for take in recorded_takes(out)] == [0, 1]


def test_discarded_and_undone_takes_are_in_no_dataset(tmp_path):
    out = tmp_path / "data"
    with LiveRecorder(out, TINY, NOTHING_RESERVED) as recorder:
        record(recorder, "kept", 5, success=True)
        record(recorder, "undone", 5, success=True)
        recorder.undo()
        recorder.begin("discarded")
        recorder.offer(frame(0))
        recorder.discard()
        recorder.begin("still open at the end")
        recorder.offer(frame(0))
    assert publish(out, TINY) == 1
    assert [take["task"] for take in recorded_takes(out)] == ["kept"]


def test_what_was_just_before_the_start_is_in_the_take(tmp_path):
    with LiveRecorder(tmp_path / "data", TINY, replace(NOTHING_RESERVED, preroll_s=0.5)) as recorder:
        for index in range(30):
            recorder.offer(frame(index, mark=index))
        record(recorder, "go", 1, success=True, mark=30)
        recorder.settle()
        folder = live_folder(tmp_path / "data") / "take-000000"
        marks = [live.state[0] for live in read_frames(folder, TINY)]
    assert marks == list(range(20, 31))


def test_control_steps_the_disk_is_too_slow_for_are_counted(tmp_path):
    with LiveRecorder(tmp_path / "data", TINY, replace(NOTHING_RESERVED, queue=1)) as recorder:
        record(recorder, "hurry", 3000, success=True)
        recorder.settle()
        take = recorder.status().takes[0].take
    assert take.frames + take.dropped == 3000 and take.dropped > 0


def test_two_sessions_cannot_record_into_one_dataset(tmp_path):
    with (
        LiveRecorder(tmp_path / "data", TINY, NOTHING_RESERVED),
        pytest.raises(UserError, match="another run is writing"),
        LiveRecorder(tmp_path / "data", TINY, NOTHING_RESERVED),
    ):
        pass


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="was not recorded by teleop"), LiveRecorder(tmp_path, TINY, NOTHING_RESERVED):
        pass
    assert (tmp_path / "letter.txt").read_text() == "dear" and not live_folder(tmp_path).exists()


def test_another_robots_dataset_is_refused(tmp_path):
    out = tmp_path / "data"
    with LiveRecorder(out, TINY, NOTHING_RESERVED) as recorder:
        record(recorder, "a", 3, success=True)
    publish(out, TINY)
    other = replace(TINY, name="other")
    with pytest.raises(UserError, match="another robot"), LiveRecorder(out, other, NOTHING_RESERVED):
        pass


def test_limits_may_be_raised_between_two_sessions(tmp_path):
    out, slower = tmp_path / "data", replace(TINY, limits=replace(TINY.limits, tool_speed=0.1))
    for spec in (slower, TINY):
        with LiveRecorder(out, spec, NOTHING_RESERVED) as recorder:
            record(recorder, "a", 3, success=True)
        publish(out, spec)
    assert len(recorded_takes(out)) == 2
    assert RobotSpec.load(out / "meta" / "robot_spec.yaml").limits == TINY.limits, "those of the last session"


def test_no_recording_begins_below_the_reserve_and_it_is_said(tmp_path):
    greedy = replace(NOTHING_RESERVED, reserve=1 << 60)
    with LiveRecorder(tmp_path / "data", TINY, greedy) as recorder:
        with pytest.raises(UserError, match="nearly full"):
            recorder.begin("a")
        assert "nearly full" in recorder.status().trouble


def test_the_reserve_that_is_reached_during_a_take_stops_it_and_what_was_recorded_can_be_kept(tmp_path, monkeypatch):
    disk = SimpleNamespace(free=3_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk)
    monkeypatch.setattr("vla.data.live.CHECK_DISK_S", 0)
    out = tmp_path / "data"
    with LiveRecorder(out, TINY, replace(NOTHING_RESERVED, reserve=2_000_000_000)) as recorder:
        recorder.begin("as far as it goes")
        for index in range(15):
            recorder.offer(frame(index))
            if index == 9:
                recorder.settle()
                disk.free = 1_000_000_000
        recorder.settle()
        assert "nearly full: 1 GB are left, 2 GB are kept free" in recorder.status().trouble
        recorder.end(True)
        with pytest.raises(UserError, match="nearly full"):
            recorder.begin("no more")
        disk.free = 3_000_000_000
        record(recorder, "goes on", 6, success=True)
        recorder.settle()
        assert not recorder.status().trouble
        takes = [(kept.take.task, kept.take.frames, kept.take.dropped) for kept in recorder.status().takes]
    assert takes == [("as far as it goes", 10, 5), ("goes on", 6, 0)]
    monkeypatch.undo()
    assert publish(out, TINY) == 2 and len(open_dataset(out)) == 16


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_costs_the_open_take_and_no_other(small_disk):
    out = small_disk / "data"
    fill(out, "No space left")
    shutil.copytree(live_folder(out), Path(f"{small_disk}-elsewhere") / "data.live")
    assert publish(Path(f"{small_disk}-elsewhere") / "data", TINY) == 2


def test_files_that_can_grow_no_more_cost_the_open_take_and_no_other(tmp_path):
    out = tmp_path / "data"
    code = "import sys; sys.path.insert(0, sys.argv[2]); import live_takes; live_takes.fill_short_files(sys.argv[1])"
    argv = [sys.executable, "-c", code, str(out), str(Path(__file__).parent)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert publish(out, TINY) == 2 and len(open_dataset(out)) == 40


def test_a_disk_too_full_for_the_dataset_leaves_the_takes_for_later(small_disk):
    out = small_disk / "data"
    with LiveRecorder(out, TINY, NOTHING_RESERVED) as recorder:
        record(recorder, "safe", 100, success=True)
    ballast = small_disk / "ballast"
    with open(ballast, "wb") as file:
        while True:
            try:
                os.write(file.fileno(), bytes(4096))
            except OSError:
                break
    with pytest.raises(UserError, match="1 takes are safe"):
        publish(out, TINY)
    ballast.unlink()
    assert publish(out, TINY) == 1 and len(open_dataset(out)) == 100


def test_kill_9_at_any_of_twenty_moments_costs_the_open_take_at_most(tmp_path):
    out, said = tmp_path / "data", tmp_path / "said"
    said.touch()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["live_takes", "vla.data.recorder"])
    dice = random.Random(0)
    for _ in range(20):
        before = said.stat().st_size
        process = context.Process(target=victim, args=(str(out), str(said)))
        process.start()
        while said.stat().st_size == before and process.is_alive():
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.5))
        assert process.is_alive(), "it ended by itself"
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    publish(out, TINY)
    kept = [int(line) for line in said.read_text().split()]
    dataset, takes = open_dataset(out), recorded_takes(out)
    numbers = [take["number"] for take in takes]
    assert len(numbers) == len(set(numbers)) == dataset.num_episodes and set(kept) <= set(numbers)
    assert [take["frames"] for take in takes] == [5 + number % 7 for number in numbers]
    assert {take["dropped"] for take in takes} == {0}
    for index, number in enumerate(numbers):
        first = dataset[dataset.meta.episodes[index]["dataset_from_index"]]  # LeRobot reads it, its pictures too
        assert float(first["observation.state"][0]) == number and first["task"] == f"take {number}"
    check_every_frame(out, dataset, numbers)


def check_every_frame(out: Path, dataset, numbers: list[int]) -> None:
    """All of them are those that `live_takes.frame` made, in order, and no others."""
    cache, rows = build_cache(out), dataset.hf_dataset.with_format("numpy")
    wanted = [(number, frame(index, number)) for number in numbers for index in range(5 + number % 7)]
    assert len(rows) == len(cache) == len(wanted)
    decided = np.array([live.decided for _, live in wanted]) - frame(0).decided
    for key, values in {
        "observation.state": [live.state for _, live in wanted],
        "action": [live.applied for _, live in wanted],
        "commanded": [live.commanded for _, live in wanted],
        "time.decided": decided,
        "driver": [live.driver for _, live in wanted],
        "intervention": [live.intervention for _, live in wanted],
    }.items():
        column = np.stack(rows[key]) if not isinstance(values[0], str) else np.array(rows[key])
        if key == "time.decided":
            np.testing.assert_allclose(column.ravel(), values, atol=1e-6)
        else:
            assert np.array_equal(column.reshape(np.shape(values)), values), key
    for camera in TINY.camera_names:
        pictures = np.stack([live.images[camera] for _, live in wanted]).astype(int)
        assert np.abs(pictures - cache.images[camera][:]).max() <= 4  # they have been a film


def test_a_take_half_written_is_never_read_as_one(tmp_path):
    out = tmp_path / "data"
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "import live_takes as t\n"
        "with t.LiveRecorder(Path(sys.argv[1]), t.TINY, t.NOTHING_RESERVED) as recorder:\n"
        "    recorder.begin('never kept')\n"
        "    [recorder.offer(t.frame(i)) for i in range(50)]\n"
        "    recorder.settle()\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(out), str(Path(__file__).parent)], check=False)
    assert list(live_folder(out).glob("open-*"))
    with LiveRecorder(out, TINY, NOTHING_RESERVED) as recorder:
        assert not list(live_folder(out).glob("open-*"))
        record(recorder, "kept", 5, success=True)
        recorder.settle()
        assert read_take(live_folder(out) / "take-000000").task == "kept"


def test_takes_that_wait_are_not_written_as_those_of_another_robot(tmp_path):
    out = tmp_path / "data"
    with LiveRecorder(out, TINY, NOTHING_RESERVED) as recorder:
        record(recorder, "lift it", 6, success=True)
    slower = replace(TINY, rate_hz=10.0)
    with pytest.raises(UserError, match=r"another robot.*rate_hz"), LiveRecorder(out, slower, NOTHING_RESERVED):
        pass
    with pytest.raises(UserError, match="another robot"):
        publish(out, slower)
    assert publish(out, TINY) == 1


def test_whatever_stops_the_recorder_is_said_and_the_next_take_is_recorded(tmp_path, capfd):
    out = tmp_path / "data"
    with LiveRecorder(out, TINY, NOTHING_RESERVED) as recorder:
        recorder.begin("lift it")
        recorder.offer(replace(frame(0), images={}))
        recorder.settle()
        assert not recorder.status().recording and "the open take is lost: KeyError" in recorder.status().trouble
        record(recorder, "lift it", 6, success=True)
        recorder.settle()
        assert [kept.take.frames for kept in recorder.status().takes] == [6]
        assert recorder.status().takes[0].thumbnail.shape == (96, 96, 3)
    assert "KeyError" in capfd.readouterr().err


def test_a_robot_without_cameras_is_recorded(tmp_path):
    blind = replace(TINY, cameras=())
    with LiveRecorder(tmp_path / "data", blind, NOTHING_RESERVED) as recorder:
        recorder.begin("lift it")
        recorder.offer(frame(0, spec=blind))
        recorder.end(True)
        recorder.settle()
        assert len(recorder.status().takes) == 1 and not recorder.status().trouble


def test_a_take_knows_what_it_lost_though_the_next_has_begun(tmp_path):
    settings = replace(NOTHING_RESERVED, queue=2)
    with LiveRecorder(tmp_path / "data", TINY, settings) as recorder:
        held = threading.Event()
        recorder._queue.put(held.wait)  # a disk that takes its time
        record(recorder, "lift it", 6, success=True)
        recorder.begin("push it")
        held.set()
        recorder.settle()
        assert recorder.status().takes[0].take.dropped == 4


def test_a_take_begun_while_the_one_before_cannot_be_kept_costs_no_other(tmp_path):
    out = tmp_path / "data"
    with LiveRecorder(out, TINY, NOTHING_RESERVED) as recorder:
        held = threading.Event()
        recorder._queue.put(held.wait)  # a disk that takes its time
        (live_folder(out) / "take-000000" / "in the way").mkdir(parents=True)
        record(recorder, "cannot be kept", 6, success=True)
        recorder.begin("is lost with it")
        held.set()
        recorder.settle()
        assert "the open take is lost" in recorder.status().trouble and not recorder.status().recording
        shutil.rmtree(live_folder(out) / "take-000000")
        record(recorder, "fits", 6, success=True)
        recorder.settle()
        assert [kept.take.task for kept in recorder.status().takes] == ["fits"] and not recorder.status().trouble


def test_a_dataset_grows_on_a_disk_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    out = tmp_path / "data"
    monkeypatch.setattr(os, "link", refuse)
    for count in (1, 2):
        with LiveRecorder(out, TINY, NOTHING_RESERVED) as recorder:
            record(recorder, "lift it", 6, success=True)
        assert publish(out, TINY) == 1
        assert open_dataset(out).num_episodes == count
