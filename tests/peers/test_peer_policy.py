"""LeRobot's checkpoints under our loops: the chunk that LeRobot computes, our words, our robots."""

import json
import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("lerobot")

from lerobot.policies import get_policy_class, make_pre_post_processors

from vla import assets
from vla.bench import latency
from vla.cli import main
from vla.errors import UserError
from vla.evaluation.episode import Play, play_episode
from vla.peers.policy import PeerPolicy
from vla.peers.text import embed_text
from vla.policies import check_policy, load_policy
from vla.robots.gym_sim import GymRobot, make_robot
from vla.runtime.loop import Timing

NONE = np.zeros((0, 7), np.float32)


@pytest.fixture(scope="module")
def peer(act):
    return load_policy(str(act))


@pytest.fixture
def seen(spec):
    rng = np.random.default_rng(1)
    images = {c.name: rng.integers(0, 255, (c.height, c.width, 3), dtype=np.uint8) for c in spec.cameras}
    return images, rng.normal(size=spec.state_size).astype(np.float32)


def test_a_chunk_is_what_lerobot_makes_of_the_same_observation(act, peer, seen, spec):
    images, state = seen
    chunk = peer.act(images, state, peer.think(images, "lift the red cube", 0.0), 0.0, NONE)
    policy = get_policy_class("act").from_pretrained(act)
    before, after = make_pre_post_processors(policy.config, pretrained_path=str(act))
    observation = {
        **{c.key: torch.from_numpy(images[c.name]).permute(2, 0, 1).float() / 255 for c in spec.cameras},
        "observation.state": torch.from_numpy(state),
        "observation.environment_state": torch.from_numpy(embed_text("lift the red cube", 16)),
        "task": "lift the red cube",
    }
    batch = before(observation)
    np.testing.assert_allclose(chunk[0], after(policy.select_action(batch))[0].numpy(), atol=1e-5)
    assert chunk.shape == (6, 7) and peer.config.replan_steps == 3


def test_other_words_are_another_chunk(peer, seen):
    images, state = seen
    lift, push = (peer.act(images, state, peer.think(images, t, 0.0), 0.0, NONE) for t in ("lift", "push"))
    assert not np.allclose(lift, push)


def test_it_drives_an_episode_with_delays(peer, monkeypatch):
    with make_robot("tabletop", lazy=True) as robot:
        monkeypatch.setattr(type(robot), "max_steps", 12)
        result = play_episode(peer, robot, Play(Timing(s2_delay=0.1, s1_delay=2)), 5)
        assert result.steps == 12 and len(result.s1_ms) >= 3 and result.words is None
        assert play_episode(peer, robot, Play(Timing(s1_delay=2), variant="synchronous"), 5).steps == 12


def test_its_success_is_measured_against_latency(act, tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "S2_DELAYS_S", (0.0, 0.5))
    monkeypatch.setattr(latency, "S1_DELAYS", (0,))
    monkeypatch.setattr(GymRobot, "max_steps", 2)
    study = latency.Study(str(act), None, "tabletop", ("lift",), 1, 5)
    latency.bench_latency(study, tmp_path, 1)
    assert f"Policy `{act}`" in (tmp_path / "latency.md").read_text()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("robot_spec.yaml", None, "does not say for what robot"),
        ("model.safetensors", b"nothing", "LeRobot cannot load it"),
        ("config.json", b'{"type": "no-such-policy"}', "LeRobot cannot load it"),
    ],
)
def test_what_is_missing_or_damaged_is_one_line(act, tmp_path, file, content, message):
    folder = tmp_path / "act"
    shutil.copytree(act, folder)
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=message) as refused:
        load_policy(str(folder))
    assert "\n" not in str(refused.value)


def test_the_robot_may_come_from_the_dataset_of_the_run(act, spec, tmp_path):
    folder, dataset = tmp_path / "act", tmp_path / "data"
    shutil.copytree(act, folder)
    (folder / "robot_spec.yaml").unlink()
    (dataset / "meta").mkdir(parents=True)
    spec.save(dataset / "meta" / "robot_spec.yaml")
    (folder / "train_config.json").write_text(json.dumps({"dataset": {"root": str(dataset)}}))
    assert PeerPolicy.from_pretrained(folder).spec == spec


def test_another_robot_is_refused(act, tmp_path):
    folder = tmp_path / "act"
    shutil.copytree(act, folder)
    shutil.copy(assets.find("robot", "aloha"), folder / "robot_spec.yaml")
    with pytest.raises(UserError, match=r"looks through observation\.images\.wrist, robot aloha has"):
        load_policy(str(folder))


def test_only_what_can_be_driven_takes_it(act):
    with pytest.raises(UserError, match=r"no tandem\.json"):
        assets.find("policy", act)
    check_policy(str(act))


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "--dataset", "."],
        ["eval", "--env", "tabletop", "--episodes", "1", "--real-time"],
        ["rollout", "--real-time", "--out", "out"],
    ],
)
def test_where_it_cannot_be_played_is_one_line(act, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([words[0], "--policy", str(act), *words[1:]]) == 2
    error = capsys.readouterr().err
    assert f"policy {act} is LeRobot's: " in error and "ours only" in error and error.count("\n") == 1
