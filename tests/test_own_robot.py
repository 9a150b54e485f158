"""From what `lerobot-record` left to a served policy: the five commands of `docs/own-robot.md`."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent / "data"))  # for so101_takes.py

from so101_takes import FPS, JOINTS, write_takes

from vla.cli import main
from vla.data.cache import FrameCache, build_cache
from vla.errors import UserError
from vla.serve.client import RemotePolicy
from vla.spec import RobotSpec
from vla.tandem import TandemPolicy
from vla.training.run import train

LOOP = {"warmup": 10, "checkpoint_minutes": 60}
TINY = {
    "replan_steps": 4,
    "slow": {"cameras": []},
    "fast": {
        "cameras": [], "image_size": [48, 64], "channels": [8, 16, 32], "horizon": 16, "width": 48, "layers": 2,
        "mlp": 96,
    },
    "stages": [
        {"stage": "s1", "loop": {**LOOP, "steps": 150, "lr": 0.002, "eval_every": 150},
         "s1": {"batch": 32, "stride": 8}},
        {"stage": "joint", "loop": {**LOOP, "steps": 1, "lr": 1e-6, "eval_every": 1},
         "joint": {"s1": {"batch": 2, "held_out": 4}}},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without a spec; tests must not change it."""
    return write_takes(tmp_path_factory.mktemp("company") / "takes")


@pytest.fixture(scope="module")
def dataset(recorded: Path) -> Path:
    """With the spec that `vla spec init` drafts beside its other metadata."""
    import shutil

    root = recorded.with_name("so101")
    shutil.copytree(recorded, root)
    assert main(["spec", "init", str(root)]) == 0
    return root


@pytest.fixture(scope="module")
def run(dataset: Path, untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `vla train` with the S2 of a policy for another robot."""
    folder = tmp_path_factory.mktemp("company")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    words = ["train", "--dataset", dataset, "--s2", untrained, "--recipe", folder / "tiny.yaml"]
    assert main([str(word) for word in [*words, "--out", folder / "run"]]) == 0
    return folder / "run"


def test_the_drafted_spec_passes_the_check_and_is_not_overwritten(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["spec", "check", str(dataset)]) == 0
    out = capsys.readouterr().out
    assert "so101_follower: cameras front 64x48, wrist 64x48; state 6; action 6 (joint_position)" in out
    assert main(["spec", "init", str(dataset)]) == 2
    assert "is there already; --force replaces it" in capsys.readouterr().err
    assert RobotSpec.load(dataset / "meta" / "robot_spec.yaml").camera("wrist").mount == "wrist"


def test_the_doctor_reads_it_and_finds_a_clean_recording_clean(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "doctor", str(dataset)]) == 0, capsys.readouterr().out


def test_without_a_spec_training_says_how_to_get_one(recorded: Path, tmp_path: Path, untrained: Path) -> None:
    with pytest.raises(UserError, match=f"no meta/robot_spec.yaml; draft one with vla spec init {recorded}"):
        train([recorded], tmp_path / "run", "own-robot", "cpu", s2=str(untrained))
    assert not (tmp_path / "run").exists()


def test_a_corrected_spec_is_taken_up_without_decoding_again(dataset: Path, tmp_path: Path) -> None:
    before = build_cache(dataset, tmp_path / "cache")
    made = (before.folder / "front.npy").stat().st_mtime_ns
    file = dataset / "meta" / "robot_spec.yaml"
    text = file.read_text()
    try:
        file.write_text(text.replace("mount: fixed", "mount: wrist"))
        after = build_cache(dataset, tmp_path / "cache")
        file.write_text(text.replace("size: 5", "size: 4"))
        with pytest.raises(UserError, match=r"observation.state has shape \(6,\), its robot_spec.yaml \(5,\)"):
            build_cache(dataset, tmp_path / "cache")
    finally:
        file.write_text(text)
    assert (before.spec.camera("front").mount, after.spec.camera("front").mount) == ("fixed", "wrist")
    assert (after.folder / "front.npy").stat().st_mtime_ns == made


def test_training_takes_the_cameras_of_the_data_and_the_s2_of_another_robot(
    run: Path, dataset: Path, untrained: Path
) -> None:
    policy = TandemPolicy.from_pretrained(run / "policy")
    assert policy.spec == RobotSpec.load(dataset / "meta" / "robot_spec.yaml")
    assert (policy.s1.config.cameras, policy.s2.config.cameras) == (("front", "wrist"), ("front",))
    before, after = (TandemPolicy.from_pretrained(folder).s2 for folder in (untrained, run / "policy"))
    assert before.tokenizer.get_vocab() == after.tokenizer.get_vocab()


def test_training_goes_on_with_the_same_recipe(run: Path, dataset: Path, tmp_path: Path) -> None:
    shorter = [{**stage, "loop": {**stage["loop"], "steps": 20, "eval_every": 20}} for stage in TINY["stages"]]
    (tmp_path / "on.yaml").write_text(yaml.safe_dump(TINY | {"stages": shorter}))
    words = ["train", "--dataset", dataset, "--policy", run / "policy", "--recipe", tmp_path / "on.yaml"]
    assert main([str(word) for word in [*words, "--out", tmp_path / "more"]]) == 0
    before, after = (TandemPolicy.from_pretrained(folder / "policy") for folder in (run, tmp_path / "more"))
    assert (before.s1.trunk.position != after.s1.trunk.position).any()
    assert [path.name for path in sorted((tmp_path / "more").iterdir())][:2] == ["1-s1", "2-joint"]


def test_an_s2_comes_with_its_own_settings(dataset: Path, tmp_path: Path, untrained: Path) -> None:
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(TINY | {"slow": {"queries": 3}}))
    with pytest.raises(UserError, match="the recipe's slow differs from the S2 of --s2"):
        train([dataset], tmp_path / "run", tmp_path / "other.yaml", "cpu", s2=str(untrained))


def test_it_beats_holding_still_and_the_mean_on_episodes_it_has_not_seen(
    run: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", "--policy", run / "policy", "--dataset", dataset, "--json", tmp_path / "offline.json"]
    assert main([str(word) for word in words]) == 0
    told = json.loads((tmp_path / "offline.json").read_text())
    assert (told["episodes"], told["frames"], told["units"]) == (1, 39, ["deg"] * 5 + ["%"])
    assert list(told["error"]) == ["hold still", "mean action", "0 s", "0.5 s", "1 s", "2 s", "no thought"]
    assert told["of_hold_still"]["hold still"] == 1
    assert told["of_hold_still"]["no thought"] < 0.9 < told["of_hold_still"]["mean action"]
    assert "shoulder_pan.pos" in capsys.readouterr().out


def test_the_errors_are_those_of_the_chunks_it_predicts(run: Path, dataset: Path, tmp_path: Path) -> None:
    from vla.evaluation.offline import evaluate_offline

    told, cache = evaluate_offline(str(run / "policy"), dataset), FrameCache.open(dataset)
    policy, episode = TandemPolicy.from_pretrained(run / "policy"), cache.episodes[19]
    errors, held = [], []
    for frame in range(episode.start + 1, episode.stop):
        images = {name: pictures[frame] for name, pictures in cache.images.items()}
        after = cache.action[frame : episode.stop][: policy.config.fast.horizon]
        errors.append(np.abs(policy.act(images, cache.state[frame], None, 0.0)[: len(after)] - after))
        held.append(np.abs(cache.action[frame - 1] - after))
    np.testing.assert_allclose(told["error"]["no thought"], np.concatenate(errors).mean(0), rtol=1e-3)
    np.testing.assert_allclose(told["error"]["hold still"], np.concatenate(held).mean(0), rtol=1e-3)


def test_another_robot_and_a_dataset_too_small_are_refused(
    run: Path, dataset: Path, untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "--policy", str(untrained), "--dataset", str(dataset)]) == 2
    assert "this policy was trained for another robot" in capsys.readouterr().err
    few = write_takes(tmp_path / "few", episodes=2, length=20)
    assert main(["spec", "init", str(few)]) == 0
    words = ["eval", "--policy", str(run / "policy"), "--dataset", str(few)]
    capsys.readouterr()
    assert main(words) == 2 and "no episode is held out" in capsys.readouterr().err
    assert main([*words, "--all-episodes"]) == 0


def test_a_client_asks_the_served_policy_about_a_recorded_frame(run: Path, dataset: Path) -> None:
    command = [sys.executable, "-m", "vla.cli", "serve", "--policy", str(run / "policy"), "--port", "0"]
    cache, frame = FrameCache.open(dataset), 10
    images = {name: pictures[frame] for name, pictures in cache.images.items()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = re.search(r"ws://\S+:\d+", server.stdout.readline())
            assert url is not None
            with RemotePolicy(url[0], timeout=120) as policy:
                thought = policy.think(images, "grasp the red square", stamp=0.0)
                actions = policy.act(images, cache.state[frame], thought, now=5 / FPS)
        finally:
            server.terminate()
    own = TandemPolicy.from_pretrained(run / "policy")
    expected = own.act(images, cache.state[frame], own.think(images, "grasp the red square", 0.0), now=5 / FPS)
    assert actions.shape == (16, len(JOINTS))
    np.testing.assert_allclose(actions, expected, rtol=1e-3, atol=1e-2)
    assert 1 < actions[:, 5].max() <= 100  # the gripper, in percent
