"""`vla collect`: whole, successful, reproducible episodes, whatever happens to the process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest
from lerobot.datasets import LeRobotDataset
from safetensors.torch import load_file, save_file

from gym_tabletop.experts import make_expert
from vla import assets
from vla.data.cache import build_cache
from vla.data.collect import collect
from vla.errors import UserError

ASKED = {"env": "tabletop", "episodes": 3, "seed": 40, "policy": None, "workers": 2, "task": "all", "stills": 0}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("collect") / "episodes"
    collect(**ASKED, out=out)
    return out


def test_every_episode_ends_in_success_and_only_there(dataset):
    read = LeRobotDataset("local/test", root=dataset)
    success = np.array(read.hf_dataset["next.success"]).reshape(-1)
    ends = np.array(read.meta.episodes["dataset_to_index"]) - 1
    assert read.num_episodes == 3
    assert np.flatnonzero(success).tolist() == ends.tolist()


def test_instructions_subtasks_progress_and_places_are_recorded(dataset):
    cache = build_cache(dataset)
    for episode in cache.episodes:
        assert episode.task and episode.subtasks
        assert episode.subtasks[0][0] == 0 and episode.subtasks[-1][1] == len(episode)
    assert np.isfinite(cache.target_pixel).all()
    assert (cache.progress >= 0).all() and (cache.progress <= 1).all()
    assert cache.front.std() > 10 and cache.wrist.std() > 10


def test_an_attempt_in_which_the_mind_is_changed_is_recorded_as_two_episodes(tmp_path):
    asked = ASKED | {"env": "tabletop-suite", "task": "changed", "episodes": 1, "workers": 1}
    collect(**asked, out=tmp_path / "changed")
    before, after = build_cache(tmp_path / "changed").episodes
    assert before.task != after.task and 10 <= len(before) <= 41
    success = np.array(LeRobotDataset("local/test", root=tmp_path / "changed").hf_dataset["next.success"]).reshape(-1)
    assert np.flatnonzero(success).tolist() == [after.stop - 1]


def test_where_a_policy_is_corrected_it_drives_and_the_expert_says_what_it_would_have_done(tmp_path):
    asked = ASKED | {"policy": str(assets.find("policy", "tabletop")), "corrected": True, "episodes": 1, "workers": 1}
    collect(**asked, out=tmp_path / "corrected")
    (episode,) = (cache := build_cache(tmp_path / "corrected")).episodes
    assert episode.subtasks and np.isfinite(cache.progress).all()
    env = gymnasium.make("gym_tabletop/Tabletop-v0", split="train", render=False).unwrapped
    env.reset(seed=ASKED["seed"])
    assert episode.task == env.task_description
    np.testing.assert_allclose(cache.action[0], make_expert(env, np.random.default_rng(ASKED["seed"])).act(), atol=1e-6)
    # Between two frames the arm did something else than what is recorded: what the policy wanted.
    tool = slice(7, 10)
    apart = np.linalg.norm(np.diff(cache.state[:, tool], axis=0) - cache.action[:-1, :3], axis=1)
    assert apart.max() > 0.005


def test_it_goes_on_with_the_same_policy_wherever_that_lies_and_not_with_one_trained_on_since(tmp_path):
    policy = tmp_path / "policy"
    shutil.copytree(assets.find("policy", "tabletop"), policy)
    asked = ASKED | {"policy": str(policy), "corrected": True, "episodes": 1, "workers": 1}
    collect(**asked, out=tmp_path / "corrected")
    (tmp_path / "elsewhere").mkdir()
    moved = policy.rename(tmp_path / "elsewhere" / "policy")
    collect(**asked | {"policy": str(moved)}, out=tmp_path / "corrected")
    weights = load_file(moved / "s1.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, moved / "s1.safetensors")
    with pytest.raises(UserError, match="policy"):
        collect(**asked | {"policy": str(moved)}, out=tmp_path / "corrected")


def test_a_policy_too_is_recorded_on_training_instructions_only(untrained, tmp_path):
    asked = ASKED | {"policy": str(untrained), "seed": 43, "episodes": 1, "workers": 1}
    collect(**asked, out=tmp_path / "own")
    (episode,) = build_cache(tmp_path / "own").episodes
    told = {}
    for split in ("train", "all"):
        env = gymnasium.make("gym_tabletop/Tabletop-v0", split=split, render=False).unwrapped
        env.reset(seed=43)
        told[split] = env.task_description
    assert episode.task == told["train"] != told["all"]


def test_a_steady_hand_does_what_is_recorded(dataset, tmp_path):
    collect(**ASKED | {"steady": True}, out=tmp_path / "steady")
    steady, slips = build_cache(tmp_path / "steady"), build_cache(dataset)
    assert not np.any(steady.disturbed) and np.any(slips.disturbed)
    assert len(steady) <= len(slips)


def test_the_run_is_written_down(dataset):
    record = json.loads((dataset / "meta" / "collect.json").read_text())
    assert (record["env"], record["seed"], record["episodes"]) == ("tabletop", 40, 3)
    assert record["attempts"] == 3 + record["rejected"]


def test_the_same_command_again_does_nothing_and_another_is_refused(dataset):
    collect(**ASKED, out=dataset)
    with pytest.raises(UserError, match="seed 40, now 41"):
        collect(**{**ASKED, "seed": 41}, out=dataset)


def test_killed_and_started_again_gives_the_same_episodes(dataset, tmp_path):
    out = tmp_path / "episodes"
    (tmp_path / "run.py").write_text(f"""
from pathlib import Path
import vla.data.collect as collecting
if __name__ == "__main__":
    collecting.BLOCK = 1
    collecting.collect(**{ {**ASKED, "workers": 1}!r}, out=Path({str(out)!r}))
""")
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    process = subprocess.Popen([sys.executable, tmp_path / "run.py"], env=environment)
    partial = tmp_path / "episodes.partial"
    deadline = time.monotonic() + 300
    while not list(partial.glob("part-*-0000001")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    collect(**ASKED, out=out)
    assert not partial.exists()
    first, again = build_cache(dataset), build_cache(out)
    assert first.episodes == again.episodes
    assert np.array_equal(first.action, again.action)
    assert np.array_equal(first.front, again.front)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": "tabeltop"}, "did you mean tabletop"),
        ({"task": "juggle"}, "unknown task"),
        ({"episodes": -1}, "--episodes must be at least 0"),
        ({"stills": -5}, "--stills must be at least 0"),
        ({"workers": 0}, "--workers must be at least 1"),
        ({"episodes": 0}, "give --episodes N or --stills N"),
        ({"stills": 4}, "give --episodes N or --stills N"),
        ({"corrected": True}, "--corrected needs a --policy"),
        ({"steady": True, "policy": "tabletop"}, "--steady is for episodes of the scripted experts"),
    ],
)
def test_bad_requests_are_refused_before_any_work(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        collect(**{**ASKED, **change}, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="was not made by this kind of run"):
        collect(**ASKED, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        collect(**ASKED, out=tmp_path / "file" / "out")


def test_what_was_not_the_experts_doing_is_marked(dataset):
    cache = build_cache(dataset)
    share = float(np.mean(cache.disturbed))
    assert 0.02 < share < 0.5
