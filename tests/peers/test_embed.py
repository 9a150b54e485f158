"""A copy of a dataset with its words as numbers, as LeRobot reads it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vla.cli import main
from vla.peers.text import embed_text

lerobot_datasets = pytest.importorskip("lerobot.datasets")
KEY = "observation.environment_state"
TEXTS = ("lift the red cube", "push the blue ball")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two episodes of four frames without pictures, written by LeRobot."""
    root = tmp_path_factory.mktemp("embed") / "data"
    features = {"observation.state": {"dtype": "float32", "shape": (2,), "names": None}}
    features["action"] = {"dtype": "float32", "shape": (1,), "names": None}
    made = lerobot_datasets.LeRobotDataset.create("local/data", 10, features, root=root, use_videos=False)
    for text in TEXTS:
        for _ in range(4):
            made.add_frame(
                {"observation.state": np.zeros(2, np.float32), "action": np.ones(1, np.float32), "task": text}
            )
        made.save_episode()
    made.finalize()
    return root


def test_every_frame_carries_its_instruction_and_the_source_stays(dataset, tmp_path):
    before = (dataset / "meta" / "info.json").read_bytes(), (dataset / "meta" / "stats.json").read_bytes()
    out = tmp_path / "out"
    assert main(["data", "embed", str(dataset), "--out", str(out), "--size", "16"]) == 0
    opened = lerobot_datasets.LeRobotDataset("local/data", root=out)
    assert opened.meta.features[KEY]["shape"] == (16,) and len(opened) == 8
    for index, text in ((0, TEXTS[0]), (7, TEXTS[1])):
        np.testing.assert_allclose(opened[index][KEY].numpy(), embed_text(text, 16), atol=1e-6)
        assert opened[index]["task"] == text
    assert np.asarray(opened.meta.stats[KEY]["mean"]).shape == (16,)
    assert before == ((dataset / "meta" / "info.json").read_bytes(), (dataset / "meta" / "stats.json").read_bytes())


def test_what_cannot_be_embedded_is_one_line(dataset, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["data", "embed", str(dataset), "--out", str(out), "--size", "8"]) == 0
    for folder, target, message in (
        (dataset, out, "exists; choose another"),
        (out, tmp_path / "twice", "has observation.environment_state already"),
        (tmp_path, tmp_path / "new", "no meta/info.json"),
    ):
        assert main(["data", "embed", str(folder), "--out", str(target)]) == 2
        assert message in capsys.readouterr().err
    assert pq.read_schema(next((out / "data").rglob("*.parquet"))).field(KEY).type == pa.list_(pa.float32(), 8)
