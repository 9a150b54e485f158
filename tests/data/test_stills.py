"""Still scenes: what is written is what the environment shows, whole after any interruption."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import gymnasium
import numpy as np
import pytest

import gym_tabletop  # noqa: F401
from vla.cli import main
from vla.data.stills import MOMENTS, StillScenes, StillSettings, collect_stills
from vla.errors import UserError

SETTINGS = StillSettings(env="tabletop", seed=3, task="all")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("stills") / "scenes"
    collect_stills(SETTINGS, MOMENTS + 1, out, workers=2)
    return out


def test_scenes_are_as_the_environment_shows_them(folder):
    scenes = StillScenes(folder)
    env = gymnasium.make("gym_tabletop/Tabletop-v0", randomize=True, render=False).unwrapped
    env.reset(seed=3 + MOMENTS, options={"still": True})
    assert len(scenes) == MOMENTS + 1
    assert np.array_equal(scenes.front[MOMENTS], env.image("front"))
    assert np.array_equal(scenes.cells[MOMENTS], env.cells())
    for thing in env.scene().things:
        present, u, v = scenes.objects[MOMENTS][scenes.classes.index(thing.name)]
        assert not present or np.allclose((u, v), thing.pixel, atol=1e-6)
    env.close()


def test_there_are_a_dozen_questions_and_more_a_scene_with_targets_of_instructions(folder):
    scenes = StillScenes(folder)
    for index in range(len(scenes)):
        questions = scenes.questions(index)
        assert 10 <= len(questions) <= 25
        instructions = [q for q in questions if q["kind"] == "instruction"]
        assert 4 <= len(instructions) <= 8  # what the robot has been told is asked twice
        assert all(len(q["target"]) == 2 and 0 <= q["family"] < len(scenes.families) for q in instructions)


def test_unless_asked_otherwise_nothing_is_collected_from_the_seeds_that_are_tested_on(tmp_path):
    assert main(["collect", "--env", "tabletop", "--stills", "2", "--workers", "1", "--out", str(tmp_path / "s")]) == 0
    assert StillScenes(tmp_path / "s").meta["seed"] == 1_000_000


def test_scenes_of_the_suite_ask_for_all_it_does(tmp_path):
    collect_stills(replace(SETTINGS, env="tabletop-suite"), 30, tmp_path / "suite", workers=2)
    scenes = StillScenes(tmp_path / "suite")
    asked = [q for index in range(len(scenes)) for q in scenes.questions(index) if q["kind"] == "instruction"]
    assert {q["family"] for q in asked} == set(range(len(scenes.families)))
    assert any(" then " in q["prompt"] for q in asked) and any(" of the " in q["prompt"] for q in asked)
    assert scenes.objects[:, scenes.classes.index("drawer"), 0].any()


def test_a_finished_folder_is_left_alone_and_another_run_into_it_refused(folder):
    assert collect_stills(SETTINGS, MOMENTS + 1, folder, workers=2) == 0
    with pytest.raises(UserError, match="seed 3, now 4"):
        collect_stills(replace(SETTINGS, seed=4), MOMENTS + 1, folder, workers=2)


def test_a_damaged_folder_is_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    with open(tmp_path / "copy" / "words.jsonl", "a") as words:
        words.write("{}")
    with pytest.raises(UserError, match="do not belong together"):
        StillScenes(tmp_path / "copy")
    with pytest.raises(UserError, match="holds none"):
        StillScenes(tmp_path)


def test_killed_and_started_again_gives_the_same_scenes(folder, tmp_path):
    out = tmp_path / "scenes"
    code = f"""
from pathlib import Path
import vla.data.stills as stills
if __name__ == "__main__":
    stills.BLOCK = 1
    stills.collect_stills(stills.StillSettings(**{asdict(SETTINGS)!r}), {MOMENTS + 1}, Path({str(out)!r}), 1)
"""
    (tmp_path / "run.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "run.py"], env={**os.environ, "PYTHONPATH": ":".join(sys.path)}
    )
    partial = tmp_path / "scenes.partial"
    deadline = time.monotonic() + 120
    while not list(partial.glob("part-*-0000002")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)
    assert not out.exists()
    collect_stills(SETTINGS, MOMENTS + 1, out, workers=2)
    assert not partial.exists()
    for name in ("front.npy", "cells.npy", "objects.npy", "words.jsonl", "lines.npy"):
        assert (out / name).read_bytes() == (folder / name).read_bytes(), name
