"""`vla collect` from a suite's own experts, and its still scenes for S2."""

import json

import numpy as np
import pytest

pytest.importorskip("metaworld")

from lerobot.datasets import LeRobotDataset

from vla.data.cache import build_cache
from vla.data.collect import collect
from vla.data.stills import StillScenes, StillSettings, collect_stills
from vla.evaluation.suites.metaworld.table import task_table
from vla.robots.gym_sim import make_robot

SEED, TASK = 30, "drawer-close-v3"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("metaworld") / "episodes"
    collect("metaworld", 2, SEED, out, policy=None, workers=1, task=TASK, stills=0)
    return out


def test_episodes_succeed_in_words_of_training_from_states_that_their_seeds_give(dataset):
    cache = build_cache(dataset)
    record = json.loads((dataset / "meta" / "collect.json").read_text())
    read = LeRobotDataset("local/test", root=dataset)
    success = np.array(read.hf_dataset["next.success"]).reshape(-1)
    assert np.flatnonzero(success).tolist() == [episode.stop - 1 for episode in cache.episodes]
    assert all(episode.task in task_table()[TASK].sentences("train") for episode in cache.episodes)
    assert cache.spec.rate_hz == cache.fps == 80
    if not record["rejected"]:
        with make_robot("metaworld", task=TASK) as robot:
            np.testing.assert_allclose(robot.reset(SEED).state, cache.state[0], atol=1e-6)


def test_what_the_expert_wanted_is_recorded_within_what_an_action_can_say(dataset):
    cache = build_cache(dataset)
    assert np.abs(cache.action[:, :3]).max() <= 0.01 + 1e-6
    assert cache.action[:, 3].min() >= 0 and cache.action[:, 3].max() <= 1
    assert np.isfinite(cache.target_pixel).all() and cache.front.std() > 10 and cache.wrist.std() > 10
    assert cache.state.shape[1] == 4


def test_still_scenes_say_where_things_are(tmp_path):
    settings = StillSettings("metaworld-mt10", seed=0, task="all", size=128)
    collect_stills(settings, 3, tmp_path / "stills", workers=1)
    scenes = StillScenes(tmp_path / "stills")
    assert scenes.front.shape == (3, 128, 128, 3) and scenes.cells.shape == (3, 16, 16)
    for index in range(len(scenes)):
        questions = scenes.questions(index)
        assert {"instruction", "pointing", "existence", "caption"} <= {q["kind"] for q in questions}
        family = next(q["family"] for q in questions if q["kind"] == "instruction")
        things = task_table()[scenes.families[family]].things
        seen = {name for name, row in zip(scenes.classes, scenes.objects[index], strict=True) if row[0]}
        assert seen and seen <= set(things)
