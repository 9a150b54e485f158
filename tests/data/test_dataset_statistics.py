"""Statistics gathered in pieces are those of the whole."""

import json
import re

import numpy as np
import pytest
from datasketches import vector_of_kll_floats_sketches

from vla.bench.doctor import synthetic_recording
from vla.bench.moving_pictures import record
from vla.cli import main
from vla.data.statistics import RANK_ERROR, K, Statistics, correct_stats, of_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("statistics") / "dataset"
    record(root, 4, 9, 16, codec=None)
    return root


def gathered(values, pieces):
    total = Statistics(values.shape[1])
    for piece in np.array_split(values, pieces):
        one = Statistics(values.shape[1])
        one.update(piece)
        total.merge(one)
    return total


def test_merged_pieces_are_the_whole():
    values = np.random.default_rng(0).normal([0, 5, 1e4], [1, 1e-3, 3], (1000, 3)).astype(np.float32)
    found = gathered(values, 7)
    assert found.count.tolist() == [1000] * 3
    assert np.array_equal(found.min, values.min(0)) and np.array_equal(found.max, values.max(0))
    assert np.allclose(found.mean, values.mean(0, np.float64), rtol=1e-9)
    assert np.allclose(found.std, values.std(0, dtype=np.float64), rtol=1e-6)
    for q in (0, 0.01, 0.5, 0.99, 1):
        assert np.allclose(found.quantile(q), np.quantile(values, q, axis=0), rtol=1e-6)


def test_quantiles_of_many_values_keep_within_the_stated_error():
    # Beyond the bound once in a hundred: twice the bound is one in some ten million (it is Gaussian).
    values = np.random.default_rng(1).standard_cauchy((200_000, 2)).astype(np.float32)
    found = gathered(values, 10)
    for q in (0.01, 0.1, 0.5, 0.99):
        ranks = (values <= found.quantile(q)).mean(0)
        assert np.abs(ranks - q).max() < 2 * RANK_ERROR
    assert vector_of_kll_floats_sketches.get_normalized_rank_error(K, False) == pytest.approx(RANK_ERROR, abs=1e-5)


def test_what_is_not_finite_is_left_out_dimension_by_dimension():
    found = Statistics(3)
    found.update(np.array([[1, np.nan, np.nan], [2, np.inf, np.nan], [3, 7, -np.inf]], np.float32))
    assert found.count.tolist() == [3, 1, 0]
    numbers = found.to_dict()
    assert numbers["max"][:2] == [3, 7] and np.isnan(numbers["max"][2])
    assert numbers["q50"][:2] == [2, 7] and np.isnan(numbers["q50"][2])


def test_vectors_of_another_size_are_refused():
    with pytest.raises(ValueError, match="3 dimensions"):
        Statistics(3).update(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="cannot be merged"):
        Statistics(3).merge(Statistics(2))


def test_stats_of_a_dataset_become_those_of_its_frames(dataset):
    found = of_dataset(dataset)
    assert {key: one.size for key, one in found.items()} == {"observation.state": 8, "action": 7}
    before = json.loads((dataset / "meta" / "stats.json").read_text())
    correct_stats(dataset)
    after = json.loads((dataset / "meta" / "stats.json").read_text())
    assert after["action"]["q99"] == found["action"].to_dict()["q99"]
    assert not np.allclose(before["action"]["q99"], after["action"]["q99"], rtol=1e-3)  # averages of episodes' own
    assert np.allclose(before["action"]["mean"], after["action"]["mean"], atol=1e-4)
    assert before["action"]["count"] == after["action"]["count"] == [36]
    assert before["observation.images.front"] == after["observation.images.front"]


def test_tables_name_the_entries_of_each_dataset_by_its_own_names(dataset, tmp_path, capsys):
    other = synthetic_recording(tmp_path / "other", 2, 1, length=(12, 15))
    files = tmp_path / "one.json", tmp_path / "two.json"
    for file, folders in zip(files, ((dataset, other), (other, dataset)), strict=True):
        assert main(["data", "stats", *map(str, folders), "--json", str(file)]) == 0
        assert "elbow_flex.pos" in capsys.readouterr().out
    one, two = (json.loads(file.read_text())["datasets"] for file in files)
    assert one[str(dataset)] == two[str(dataset)] and one["together"] == two["together"] == {}


def test_a_column_that_another_dataset_lacks_has_a_table(dataset, tmp_path, capsys):
    from lerobot.datasets import LeRobotDataset

    root, names = tmp_path / "told", ["far", "near"]
    features = {name: {"dtype": "float32", "shape": (2,), "names": names} for name in ("action", "commanded")}
    told = LeRobotDataset.create("local/told", 10, features, root=root, use_videos=False)
    for _ in range(3):
        told.add_frame({"task": "wave", **dict.fromkeys(features, np.zeros(2, np.float32))})
    told.save_episode()
    told.finalize()
    assert main(["data", "stats", str(dataset), str(root)]) == 0
    assert re.search(r"commanded *│ far ", capsys.readouterr().out)


def test_lerobot_reads_the_corrected_stats(dataset):
    from lerobot.datasets import LeRobotDataset

    correct_stats(dataset)
    stats = LeRobotDataset("local/x", root=dataset).meta.stats
    assert stats["action"]["q99"].shape == (7,)
