"""Recorded episodes come back from LeRobot, and from the training cache, as they went in."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from lerobot.datasets import LeRobotDataset

from vla import assets
from vla.data.cache import FrameCache, build_cache
from vla.data.episode import Episode, Frame
from vla.data.recorder import EpisodeRecorder
from vla.errors import UserError
from vla.spec import RobotSpec

SPEC = RobotSpec.load(assets.find("robot", "tabletop"))
SEEN = SPEC.camera_names


def episode(number, length):
    """Smooth pictures, and numbers that tell frames apart."""
    ramp = np.linspace(0, 120, 96)
    frames = []
    for step in range(length):
        image = (ramp[:, None, None] + ramp[None, :, None] + np.array([0, number, step])).astype(np.uint8)
        frames.append(
            Frame(
                images={"front": image, "wrist": image[::-1]},
                state=np.full(17, number + step / 100, np.float32),
                action=np.full(7, step, np.float32),
                subtask="reach" if step < 2 else "lift",
                progress=step / length,
                target_pixel=(0.25, 0.5),
                goal_pixel=(float("nan"),) * 2,
                success=step == length - 1,
                disturbed=step == 1,
            )
        )
    return Episode(f"task {number % 2}", frames)


EPISODES = [episode(number, 3 + number % 3) for number in range(12)]  # more than LeRobot buffers the metadata of
FRAMES = [(number, frame) for number, one in enumerate(EPISODES) for frame in one.frames]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("recording") / "dataset"
    recorder = EpisodeRecorder(root, SPEC)
    for one in EPISODES:
        recorder.write(one)
    recorder.close()
    return root


@pytest.fixture(scope="module")
def cache(dataset):
    return build_cache(dataset)


def test_lerobot_reads_every_frame_back(dataset):
    read = LeRobotDataset("local/test", root=dataset)
    assert (read.num_episodes, read.num_frames, read.fps) == (12, len(FRAMES), 20)
    for index, (number, frame) in enumerate(FRAMES):
        row = read[index]
        assert row["task"] == EPISODES[number].task
        assert row["subtask"] == frame.subtask
        assert np.array_equal(row["observation.state"], frame.state)
        assert np.array_equal(row["action"], frame.action)
        assert float(row["progress"]) == np.float32(frame.progress)
        assert np.allclose(row["target_pixel"], (0.25, 0.5))
        assert np.allclose(row["goal_pixel"], (-1, -1))
        assert bool(row["next.success"]) == frame.success
        assert bool(row["disturbed"]) == frame.disturbed
        for camera, image in frame.images.items():
            seen = 255 * row[f"observation.images.{camera}"].numpy().transpose(1, 2, 0)
            assert np.abs(seen - image).mean() < 2


def test_the_dataset_carries_the_robot_spec(dataset):
    assert RobotSpec.load(dataset / "meta" / "robot_spec.yaml") == SPEC


def test_the_cache_holds_what_lerobot_returns(dataset, cache):
    read = LeRobotDataset("local/test", root=dataset)
    assert len(cache) == len(read)
    for index in range(len(read)):
        row = read[index]
        for camera in ("front", "wrist"):
            seen = np.round(255 * row[f"observation.images.{camera}"].numpy().transpose(1, 2, 0)).astype(np.uint8)
            assert np.array_equal(cache.images[camera][index], seen)
        assert np.array_equal(cache.state[index], row["observation.state"])
        assert np.array_equal(cache.action[index], row["action"])
        assert cache.progress[index] == float(row["progress"])
        assert cache.disturbed[index] == bool(row["disturbed"])
        assert cache.episode[index] == row["episode_index"]


def test_unknown_places_are_nan_in_the_cache(cache):
    assert np.isnan(cache.goal_pixel).all()
    assert np.allclose(cache.target_pixel, (0.25, 0.5))


def test_episodes_know_their_frames_task_and_subtasks(cache):
    assert [len(one) for one in cache.episodes] == [len(one.frames) for one in EPISODES]
    assert [one.task for one in cache.episodes] == [one.task for one in EPISODES]
    assert cache.episodes[1].subtasks == ((0, 2, "reach"), (2, 4, "lift"))


def test_statistics_are_those_of_the_frames(cache):
    actions = np.stack([frame.action for _, frame in FRAMES])
    assert np.allclose(cache.stats["action"]["mean"], actions.mean(0))
    assert np.allclose(cache.stats["action"]["q99"], np.quantile(actions, 0.99, axis=0))


def test_a_cache_that_fits_is_opened_not_built(dataset, cache):
    before = (cache.folder / "front.npy").stat().st_mtime_ns
    assert len(build_cache(dataset)) == len(cache)
    assert (cache.folder / "front.npy").stat().st_mtime_ns == before


def test_a_copy_of_a_dataset_at_another_time_takes_its_cache_along(dataset, cache, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy", copy_function=shutil.copyfile)
    for file in (one for one in copy.rglob("*") if "cache" not in one.parts):
        os.utime(file, ns=(1, 1))
    before = (copy / "cache" / "front.npy").stat().st_ino
    assert build_cache(copy).meta == cache.meta
    assert (copy / "cache" / "front.npy").stat().st_ino == before


def test_a_cache_is_built_anew_for_other_instructions_actions_and_videos(dataset, cache, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")

    def change(file, **columns):
        table = pd.read_parquet(file)
        table.assign(**{name: [of(value) for value in table[name]] for name, of in columns.items()}).to_parquet(file)

    for file in (copy / "meta" / "episodes").rglob("*.parquet"):
        change(file, tasks=lambda tasks: [f"please {task}" for task in tasks])
    assert [one.task for one in build_cache(copy).episodes] == [f"please {one.task}" for one in EPISODES]
    for file in (copy / "data").rglob("*.parquet"):
        change(file, action=lambda action: 1 - action)
    assert np.array_equal(build_cache(copy).action, 1 - cache.action)
    videos = {camera: list((copy / "videos" / f"observation.images.{camera}").rglob("*.mp4")) for camera in SEEN}
    for front, wrist in zip(*videos.values(), strict=True):
        shutil.copyfile(wrist, front)
    assert np.array_equal(build_cache(copy).front, cache.wrist)


def test_a_cache_opens_without_lerobot(cache):
    code = f"""
import sys
from vla.data.cache import FrameCache
assert len(FrameCache.open({str(cache.folder)!r})) == {len(FRAMES)}
assert not {{"lerobot", "torch", "av", "pyarrow"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_no_cache_or_dataset_is_named(tmp_path, dataset, cache):
    with pytest.raises(UserError, match="holds none"):
        FrameCache.open(tmp_path)
    with pytest.raises(UserError, match=r"no meta/info.json"):
        build_cache(tmp_path)
    copy = tmp_path / "cache"
    shutil.copytree(cache.folder, copy)
    (copy / "front.npy").write_bytes((copy / "front.npy").read_bytes()[:5000])
    with pytest.raises(UserError, match="is damaged"):
        FrameCache.open(tmp_path)


def test_a_spec_that_promises_more_than_the_dataset_has_is_refused(tmp_path, dataset):
    copy = tmp_path / "dataset"
    shutil.copytree(dataset, copy, ignore=shutil.ignore_patterns("cache"))
    file = copy / "meta" / "robot_spec.yaml"
    spec = yaml.safe_load(file.read_text())
    spec["cameras"][1]["name"] = "elbow"
    file.write_text(yaml.safe_dump(spec))
    with pytest.raises(UserError, match=r"no column observation.images.elbow"):
        build_cache(copy)
    assert not (copy / "cache").exists()


def test_datasets_without_our_labels_have_unknown_ones(tmp_path, dataset):
    copy = tmp_path / "dataset"
    shutil.copytree(dataset, copy, ignore=shutil.ignore_patterns("cache"))
    labels = ["subtask", "progress", "target_pixel", "goal_pixel", "next.success", "disturbed"]
    for file in (copy / "data").rglob("*.parquet"):
        pd.read_parquet(file).drop(columns=labels).to_parquet(file)
    info = json.loads((copy / "meta" / "info.json").read_text())
    info["features"] = {key: value for key, value in info["features"].items() if key not in labels}
    (copy / "meta" / "info.json").write_text(json.dumps(info))
    cache = build_cache(copy)
    assert np.isnan(cache.progress).all()
    assert cache.episodes[0].subtasks == ()
