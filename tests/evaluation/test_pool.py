import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vla import assets
from vla.errors import UserError
from vla.evaluation.describe import describe
from vla.evaluation.evaluate import EvalOptions, evaluate
from vla.evaluation.pool import Job, crew, play_all
from vla.evaluation.setup import Setup
from vla.runtime.loop import Timing
from vla.spec import RobotSpec

TWO_WORKERS = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background is born deaf to Ctrl-C
from vla.evaluation.pool import Job, play_all
from vla.evaluation.setup import Setup
play = play_all(Setup(sys.argv[1], "tabletop"), [Job(i, i) for i in range(100)], workers=2)
for result in play:
    print(result.index, flush=True)
"""


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_results_do_not_depend_on_the_number_of_workers():
    options = EvalOptions(timing=Timing(s2_delay=0.2, s1_delay=1))
    runs = [evaluate("tabletop", "tabletop", 6, 100_004, options, workers) for workers in (1, 2, 4)]
    alone, *others = runs
    assert any(alone["outcomes"]) and len({one["steps"] for one in alone["details"]}) > 3, "nothing to tell apart"
    for shared in others:
        assert alone["outcomes"] == shared["outcomes"]
        assert alone["details"] == shared["details"]
        assert alone["latency"]["s2_age_s"] == shared["latency"]["s2_age_s"]
        assert alone["counts"] == shared["counts"]
    assert [run["workers"] for run in runs] == [1, 2, 4]


@pytest.fixture
def forward(untrained_for, tmp_path):
    """The folder of a policy for MetaWorld whose hand goes ahead and a little down, and so reaches some places."""
    spec = RobotSpec.load(assets.find("robot", "metaworld"))
    folder = untrained_for(tmp_path / "forward", spec, [0.01] * 3 + [1.0])
    file = folder / "normalization.json"
    known = json.loads(file.read_text())
    known["action"] |= {"q01": [-0.001, 0.005, -0.003, 0.0], "q99": [0.001, 0.007, -0.001, 1.0]}
    file.write_text(json.dumps(known))
    return str(folder)


def test_nor_do_those_of_metaworld_whose_scenes_a_worker_plays_again(forward):
    pytest.importorskip("metaworld")
    jobs = [Job(index, seed) for index, seed in enumerate((60, 5, 110, 270, 200))]
    alone, *others = (played(Setup(forward, "metaworld-mt10"), jobs, workers) for workers in (1, 2, 4))
    assert len({steps for _, _, steps in alone.values()}) > 3, "nothing to tell apart"
    assert all(shared == alone for shared in others)


def played(setup, jobs, workers):
    return {one.index: (one.family, one.success, one.steps) for one in play_all(setup, jobs, workers)}


def test_the_same_processes_play_one_setup_after_the_other(untrained):
    parts = [(Setup(str(untrained), "tabletop", task=task), [Job(i, 40 + i) for i in (first, first + 1)])
             for first, task in ((0, "lift"), (2, "push"))]  # fmt: skip
    with crew(1) as here:
        alone = {result.index: result for result in here.play(parts)}
    with crew(2) as players:
        together = {result.index: result for result in players.play(parts)}
        workers = set(children(os.getpid()))
        again = {result.index: result for result in players.play(parts[::-1])}
        assert workers <= set(children(os.getpid()))
    for index in range(4):
        assert alone[index].family == ("lift" if index < 2 else "push")
        for other in (together[index], again[index]):
            assert (other.success, other.steps) == (alone[index].success, alone[index].steps)


def test_what_a_worker_refuses_is_told_as_it_is(untrained, tmp_path):
    damaged = shutil.copytree(untrained, tmp_path / "damaged")
    weights = damaged / "s1.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"s1\.safetensors is damaged"):
        list(play_all(Setup(str(damaged), "tabletop"), [Job(0, 0), Job(1, 1)], workers=2))


def test_a_worker_that_dies_is_reported_with_its_last_words(untrained):
    broken = Setup(str(untrained), "tabletop", media="/nonexistent", sheets=2)
    with pytest.raises(RuntimeError, match=r"ended with exit code 1; its last words:(.|\n)*No such file or directory"):
        list(play_all(broken, [Job(0, 0), Job(1, 1)], workers=2))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts processes through /proc")
def test_an_interrupted_evaluation_leaves_no_process_behind(untrained):
    parent = subprocess.Popen(
        [sys.executable, "-c", TWO_WORKERS, str(untrained)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout
    parent.stdout.readline()
    workers = children(parent.pid)
    assert len(workers) == 2
    parent.send_signal(signal.SIGINT)
    parent.wait(timeout=120)
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{worker}") for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(os.path.exists(f"/proc/{worker}") for worker in workers)


def test_s2_describes_a_picture(untrained, tmp_path):
    import cv2
    import numpy as np

    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.full((120, 160, 3), 90, np.uint8))
    assert isinstance(describe(str(untrained), picture, "what is on the tàble? ☕"), str)


def test_asking_about_what_is_no_picture_is_refused(untrained, tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(UserError, match="is no picture"):
        describe(str(untrained), tmp_path / "a.png", "what is it?")
