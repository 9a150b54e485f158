"""The training loader gives what LeRobot gives, in an order that depends on nothing but its arguments."""

import json
import pickle
import shutil
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from lerobot.datasets import LeRobotDataset

from vla.bench.moving_pictures import FPS, record
from vla.data.cache import build_cache
from vla.data.loader import Loader, LoaderConfig
from vla.data.order import BLOCK
from vla.errors import UserError

HORIZON, EPISODES, LENGTH = 8, 6, 11
FRAMES = EPISODES * LENGTH
CONFIG = LoaderConfig(batch=4, horizon=HORIZON, seed=3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("moving") / "dataset"
    record(root, EPISODES, LENGTH, 64, codec="h264")
    return root


@pytest.fixture(scope="module")
def cache(dataset):
    return build_cache(dataset)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The same kind of dataset with single pictures in place of video, and smaller ones."""
    root = tmp_path_factory.mktemp("moving") / "pictures"
    record(root, 3, 7, 32, seed=1, codec=None)
    return root


def read_by_lerobot(root):
    deltas = {"action": [step / FPS for step in range(HORIZON)]}
    return LeRobotDataset("local/x", root=root, delta_timestamps=deltas, return_uint8=True, video_backend="pyav")


def samples(loader, steps):
    for step in range(steps):
        batch = loader.batch(step)
        for i, frame in enumerate(batch.frame.tolist()):
            yield batch, i, frame


def same(one, other):
    assert one.step == other.step and one.task == other.task
    assert torch.equal(one.frame, other.frame) and torch.equal(one.dataset, other.dataset)
    assert torch.equal(one.state, other.state) and torch.equal(one.action, other.action)
    assert torch.equal(one.age.nan_to_num(-1), other.age.nan_to_num(-1))
    for name, picture in {**one.images, **one.seen}.items():
        assert torch.equal(picture, {**other.images, **other.seen}[name])
    return True


def test_samples_are_those_of_lerobot(dataset, cache):
    read, seen = read_by_lerobot(dataset), set()
    for batch, i, frame in samples(Loader([cache], CONFIG), FRAMES // CONFIG.batch + 1):
        row = read[frame]
        assert torch.equal(batch.state[i], row["observation.state"])
        assert torch.equal(batch.action[i], row["action"])
        assert torch.equal(batch.valid[i], ~row["action_is_pad"])
        assert batch.task[i] == row["task"]
        for camera, picture in batch.images.items():
            assert torch.equal(picture[i], row[f"observation.images.{camera}"].permute(1, 2, 0))
        seen.add(frame)
    assert seen == set(range(FRAMES))


def test_pictures_kept_as_pictures_are_read_too(pictures):
    read = read_by_lerobot(pictures)
    for batch, i, frame in samples(Loader([build_cache(pictures)], CONFIG), 5):
        assert torch.equal(batch.state[i], read[frame]["observation.state"])
        expected = (255 * read[frame]["observation.images.wrist"]).round().to(torch.uint8).permute(1, 2, 0)
        assert torch.equal(batch.images["wrist"][i], expected)


def test_beyond_the_budget_pictures_are_jpeg_and_close(dataset, cache, tmp_path):
    budget = 700_000
    small = build_cache(dataset, tmp_path / "jpeg", budget=budget)
    assert (cache.meta["encoding"], small.meta["encoding"]) == ("raw", "jpeg")
    assert sum(file.stat().st_size for file in small.folder.glob("*.jpeg")) <= budget
    for exact, close in zip(*(samples(Loader([one], CONFIG), 6) for one in (cache, small)), strict=True):
        (batch, i, frame), (other, j, same_frame) = exact, close
        assert frame == same_frame and torch.equal(batch.state[i], other.state[j])
        apart = batch.images["front"][i].float() - other.images["front"][j].float()
        assert 0 < apart.abs().mean() < 3


def test_a_cache_whose_pictures_exceed_the_budget_is_built_anew(dataset, tmp_path):
    for budget, encoding in ((None, "raw"), (700_000, "jpeg"), (700_000, "jpeg")):
        cache = build_cache(dataset, tmp_path / "cache", budget=budget)
        assert cache.meta["encoding"] == encoding
    before = cache.folder.stat().st_ino
    assert build_cache(dataset, tmp_path / "cache").folder.stat().st_ino == before
    with pytest.raises(UserError, match="budget"):
        build_cache(dataset, tmp_path / "cache", budget=20_000)


def test_what_does_not_fit_at_all_is_refused_and_leaves_nothing(dataset, tmp_path):
    with pytest.raises(UserError, match=r"camera front would take .* GB as JPEG"):
        build_cache(dataset, tmp_path / "small", budget=20_000)
    with pytest.raises(UserError, match="GB of raw pictures, the budget is"):
        build_cache(dataset, tmp_path / "small", budget=20_000, encoding="raw")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_do_not_change_what_comes(cache, workers):
    loader = Loader([cache], replace(CONFIG, slow_cameras=("front",)), draw_ages=lambda rng, n: rng.uniform(0, 1, n))
    alone = [loader.batch(step) for step in range(9)]
    together = list(islice(loader.batches(workers=workers), 9))
    assert all(same(one, other) for one, other in zip(alone, together, strict=True))


def test_a_run_goes_on_in_the_middle_of_an_epoch(cache):
    loader = Loader([cache], CONFIG)
    whole = list(islice(loader.batches(), 40))  # more than two epochs
    state = json.loads(json.dumps(loader.state(23)))
    assert (state["epoch"], state["position"]) == divmod(23 * CONFIG.batch, FRAMES)
    again = Loader([cache], CONFIG)
    rest = list(islice(again.batches(again.resume(state), workers=2), 17))
    assert all(same(one, other) for one, other in zip(whole[23:], rest, strict=True))


def test_a_run_does_not_go_on_in_another_order(cache):
    state = Loader([cache], CONFIG).state(5)
    for config in (replace(CONFIG, batch=8), replace(CONFIG, seed=4)):
        with pytest.raises(UserError, match="order of samples differs"):
            Loader([cache], config).resume(state)


def test_ranks_share_an_epoch(cache):
    ranks = [Loader([cache], replace(CONFIG, batch=11), rank=rank, ranks=3) for rank in range(3)]
    drawn = [int(frame) for loader in ranks for step in range(2) for frame in loader.batch(step).frame]
    assert sorted(drawn) == list(range(FRAMES))
    one = Loader([cache], replace(CONFIG, batch=33))
    assert [int(f) for loader in ranks for f in loader.batch(1).frame] == one.batch(1).frame.tolist()


def test_every_epoch_has_its_own_order(cache):
    loader = Loader([cache], replace(CONFIG, batch=FRAMES))
    first, second = (loader.batch(step).frame.tolist() for step in range(2))
    assert sorted(first) == sorted(second) == list(range(FRAMES))
    assert first != second
    assert first != Loader([cache], replace(CONFIG, batch=FRAMES, seed=4)).batch(0).frame.tolist()


def test_s2_sees_the_frame_of_some_time_ago_within_the_episode(cache):
    config = replace(CONFIG, slow_cameras=("front",))
    loader = Loader([cache], config, draw_ages=lambda rng, n: np.full(n, 0.2))
    for batch, i, frame in samples(loader, 12):
        start = frame // LENGTH * LENGTH
        source = max(frame - 4, start)
        assert np.array_equal(batch.seen["front"][i], cache.images["front"][source])
        assert float(batch.age[i]) == pytest.approx((frame - source) / FPS)


def test_where_s2_has_not_looked_yet_the_age_is_unknown(cache):
    loader = Loader([cache], replace(CONFIG, slow_cameras=("front",)), draw_ages=lambda rng, n: np.full(n, np.nan))
    assert loader.batch(0).age.isnan().all()


def test_loading_leaves_the_random_state_of_training_alone(cache):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    next(iter(Loader([cache], CONFIG).batches(workers=1)))
    assert torch.equal(torch.get_rng_state(), before)


def test_datasets_are_drawn_in_proportion_to_their_weights(cache, pictures):
    caches = [cache, build_cache(pictures)]
    loader = Loader(caches, replace(CONFIG, size=(16, 16)), weights=[3, 1])
    assert loader.order.quotas.tolist() == [0.75 * BLOCK, 0.25 * BLOCK]
    drawn = np.concatenate([loader.batch(step).dataset.numpy() for step in range(100)])
    assert 0.65 < (drawn == 0).mean() < 0.85
    batch = loader.batch(0)
    assert batch.images["front"].shape == (CONFIG.batch, 16, 16, 3)
    by_frames = Loader(caches, replace(CONFIG, size=(16, 16))).order.quotas / BLOCK
    assert by_frames == pytest.approx([FRAMES / (FRAMES + 21), 21 / (FRAMES + 21)], abs=1e-4)


def test_pictures_of_differing_size_need_one_to_be_brought_to(cache, pictures):
    with pytest.raises(UserError, match=r"camera front differ in size .*64x64.*32x32"):
        Loader([cache, build_cache(pictures)], CONFIG)


def test_every_dataset_is_normalised_by_its_own_statistics(cache, pictures):
    caches = [cache, build_cache(pictures)]
    loader = Loader(caches, replace(CONFIG, size=(16, 16), normalize=True))
    for batch, i, frame in samples(loader, 4):
        of = caches[int(batch.dataset[i])]
        low, high = (np.array(of.stats["state"][name]) for name in ("q01", "q99"))
        expected = np.clip((of.state[frame] - low) / (high - low) * 2 - 1, -3, 3)
        assert np.allclose(batch.state[i], expected, atol=1e-4)


def test_narrower_states_of_a_mixture_end_in_zeros(cache, pictures):
    narrow = build_cache(pictures)
    narrow = replace(narrow, state=narrow.state[:, :5])
    loader = Loader([cache, narrow], replace(CONFIG, size=(16, 16)))
    rows = [(batch.state[i], frame) for batch, i, frame in samples(loader, 20) if batch.dataset[i] == 1]
    assert rows
    for state, frame in rows:
        assert np.array_equal(state[:5], narrow.state[frame]) and (state[5:] == 0).all()


def test_a_camera_that_is_not_there_is_named(cache):
    with pytest.raises(UserError, match="has no camera elbow; it has front, wrist"):
        Loader([cache], replace(CONFIG, cameras=("elbow",)))


def test_a_cache_goes_to_another_process_by_its_place(cache):
    sent = pickle.dumps(cache)
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent).state, cache.state)


def test_damaged_files_are_named_and_leave_no_cache(dataset, tmp_path):
    copy = tmp_path / "dataset"
    shutil.copytree(dataset, copy, ignore=shutil.ignore_patterns("cache"))
    video = next((copy / "videos" / "observation.images.wrist").rglob("*.mp4"))
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"videos/observation.images.wrist/chunk-000/file-000.mp4"):
        build_cache(copy)
    video.write_bytes(whole)
    table = next((copy / "data").rglob("*.parquet"))
    whole = table.read_bytes()
    table.write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"data/chunk-000/file-000.parquet is damaged"):
        build_cache(copy)
    assert not [path for path in copy.iterdir() if "cache" in path.name]
