"""Policies trained for the same time, and the one table over them."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("lerobot")

from lerobot.policies.act.modeling_act import ACTPolicy

from vla import assets
from vla.bench import contest, policies
from vla.bench.contest import Entrant, Field, content, load_field, train_entrant
from vla.bench.policies import Contest, _claim, bench_policies, entrants
from vla.data.cache import FrameCache
from vla.errors import UserError
from vla.evaluation.episode import Play, play_episode
from vla.peers.policy import PeerPolicy
from vla.peers.small_vlm import SmallVlm
from vla.peers.stage import PeerRecipe, PeerStage, new_peer
from vla.robots.gym_sim import GymRobot, make_robot
from vla.runtime.loop import Timing
from vla.training.examples import Examples, fit_normalizer
from vla.training.loop import LoopConfig, fit

OPTIONS = {
    **{"chunk_size": 12, "n_action_steps": 6, "pretrained_backbone_weights": None, "dim_model": 32, "n_heads": 2},
    **{"dim_feedforward": 32, "n_encoder_layers": 1, "use_vae": False},
}
CHUNK = 7
"""Of the peers that are stepped once; Diffusion's eight, less the step it looks back."""
DIFFUSION = {
    **{"horizon": CHUNK + 1, "n_obs_steps": 2, "n_action_steps": 4, "down_dims": [8, 16], "num_inference_steps": 2},
    **{"pretrained_backbone_weights": None, "use_group_norm": True, "noise_scheduler_type": "DDIM"},
}
LOOP = LoopConfig(lr=1e-3, warmup=1, log_every=1, eval_every=1000, bf16=False)
SHIPPED = [(name, one.name) for name in ("tabletop", "metaworld-mt10") for one in load_field(name).policies if one.peer]


def tiny(name: str, **options) -> Entrant:
    return Entrant(name, peer=PeerRecipe("act", batch=2, text=16, options=OPTIONS | options), loop=LOOP)


@pytest.fixture(scope="module")
def examples(frames):
    cache = FrameCache.open(frames)
    return Examples([cache], fit_normalizer([cache]))


def test_a_batch_is_what_was_recorded_normalised_by_lerobot(examples):
    peer = new_peer(PeerRecipe("act", text=16, options=OPTIONS), examples, seed=0)
    batch = PeerStage(peer, examples, batch=2)._make(np.array([3, 6]))
    assert batch["observation.state"].shape == (2, 17) and batch["action"].shape == (2, 12, 7)
    assert batch["observation.images.front"].shape == (2, 3, 96, 96)
    # Frame 3 is the fourth of an episode of six, frame 6 the first of the next.
    assert batch["action_is_pad"].sum(1).tolist() == [9, 6]
    state = examples.caches[0].state
    expected = (state[3] - state.mean(0)) / (state.std(0) + 1e-8)
    np.testing.assert_allclose(batch["observation.state"][0], expected, atol=1e-4)
    assert not np.allclose(*batch["observation.environment_state"])


@pytest.fixture
def shoved(frames):
    """As `examples`, but that the fourth action of the first episode was not what should have been done."""
    cache = FrameCache.open(frames)
    disturbed = np.zeros(len(cache), np.float32)
    disturbed[3] = 1
    return Examples([replace(cache, disturbed=disturbed)], fit_normalizer([cache]))


def test_what_nobody_could_foresee_is_not_learned_by_anybody(shoved):
    frames = np.array([0, 3, 4])
    peer = new_peer(PeerRecipe("act", text=16, options=OPTIONS), shoved, seed=0)
    learned = ~PeerStage(peer, shoved, batch=3)._make(frames)["action_is_pad"].numpy()
    assert np.array_equal(learned, shoved.chunks(frames, 12)[1]) and learned.sum(1).tolist() == [4, 1, 2]


def test_the_contests_diffusion_learns_nothing_where_there_is_nothing_to_learn(examples):
    pytest.importorskip("diffusers")
    (entrant,) = entrants(load_field("tabletop"), ["diffusion"]).policies
    stage = PeerStage(new_peer(entrant.peer, examples, 0), examples, batch=2)
    batch = stage.batch(0)
    batch["action_is_pad"][:] = True
    assert stage.loss(batch)[0].item() == 0


def test_act_from_nothing_trains_its_norms_and_lerobots_own_acts_alike(examples, tmp_path):
    peer = new_peer(PeerRecipe("act", text=16, options=OPTIONS), examples, seed=0)
    stage = PeerStage(peer, examples, batch=4)
    fit(stage, replace(LOOP, steps=2), tmp_path)
    norms = [module for module in stage.model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 20 and all(norm.running_mean.any() and norm.bias.any() for norm in norms)
    stage.save(tmp_path)
    lerobots = ACTPolicy.from_pretrained(tmp_path / "policy")
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in lerobots.modules())
    stage.model.eval()
    batch = stage.batch(0)
    ours, theirs = (policy.predict_action_chunk(batch) for policy in (stage.model, lerobots))
    torch.testing.assert_close(ours, theirs)


def one_step(peer: PeerPolicy, examples: Examples) -> float:
    """The loss falls from zero gradients to some: forward, backward, and a chunk of the right shape."""
    stage = PeerStage(peer, examples, batch=2)
    loss, _ = stage.loss(stage.batch(0))
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in stage.model.parameters())
    camera = {c.name: np.zeros((c.height, c.width, 3), np.uint8) for c in peer.spec.cameras}
    thought = peer.think(camera, "lift the red cube", 0.0)
    chunk = peer.act(camera, np.zeros(17, np.float32), thought, 0.0, np.zeros((0, 7), np.float32))
    assert chunk.shape == (CHUNK, 7) and np.isfinite(chunk).all()
    return float(loss)


def test_smolvla_cut_to_size_learns_from_nothing(examples, tmp_path):
    options = {"chunk_size": CHUNK, "n_action_steps": 4, "freeze_vision_encoder": False, "train_expert_only": False}
    recipe = PeerRecipe("smolvla", text=0, vlm=SmallVlm(32, 2, 2, 16, 300), options=options | {"num_steps": 2})
    peer = new_peer(recipe, examples, 0, tmp_path)
    assert one_step(peer, examples) > 0
    peer.save(tmp_path / "policy")
    assert PeerPolicy.from_pretrained(tmp_path / "policy").config.replan_steps == 4


def test_diffusion_sees_two_steps_and_hands_out_all_that_is_left_of_its_chunk(examples):
    pytest.importorskip("diffusers")
    peer = new_peer(PeerRecipe("diffusion", text=16, options=DIFFUSION), examples, 0)
    assert peer.frames == 2 and peer.config.replan_steps == 4
    batch = PeerStage(peer, examples, batch=2)._make(np.array([3, 6]))
    state = batch["observation.state"]
    assert state.shape == (2, 2, 17) and not np.array_equal(state[0, 0], state[0, 1])
    assert np.array_equal(state[1, 0], state[1, 1]), "before an episode its first frame is repeated"
    assert one_step(peer, examples) > 0


def test_diffusion_is_given_the_two_steps_that_there_were(examples, monkeypatch):
    pytest.importorskip("diffusers")
    peer = new_peer(PeerRecipe("diffusion", text=16, options=DIFFUSION), examples, 0)
    given, seen = [], []
    monkeypatch.setattr(peer, "before", Noting(peer.before, given))
    with make_robot("tabletop") as robot:
        monkeypatch.setattr(type(robot), "max_steps", 10)
        command = type(robot).command
        monkeypatch.setattr(
            type(robot), "command", lambda it, action: seen.append(it.observe().state) or command(it, action)
        )
        for _ in range(2):
            assert play_episode(peer, robot, Play(), 5).steps == 10
    chunks = [(0, 0), (3, 4), (7, 8)]
    told = [np.stack([seen[first + i] for i in pair]) for first in (0, 10) for pair in chunks]
    np.testing.assert_array_equal(given, told)


class Noting:
    """A processor that notes the states it is given."""

    def __init__(self, processor, given):
        self.processor, self.given = processor, given

    def __call__(self, batch):
        self.given.append(batch["observation.state"][0].numpy())
        return self.processor(batch)


def test_it_trains_for_its_time_and_is_a_checkpoint_of_lerobots(frames, tmp_path):
    trained = train_entrant(tiny("act"), [frames], 0.5, tmp_path, "cpu")
    assert trained.seconds >= 0.5 and trained.samples_per_s > 0 and trained.wall_s >= trained.seconds
    peer = PeerPolicy.from_pretrained(trained.policy)
    assert peer.config.replan_steps == 6 and peer.policy.config.chunk_size == 12
    assert train_entrant(tiny("act"), [frames], 0.5, tmp_path, "cpu") == trained, "read, not trained again"


def test_what_was_trained_is_found_from_another_folder(frames, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train_entrant(tiny("act"), [frames], 0.1, Path("here"), "cpu")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    trained = train_entrant(tiny("act"), [frames], 0.1, tmp_path / "here", "cpu")
    assert PeerPolicy.from_pretrained(trained.policy).config.replan_steps == 6


def test_the_wall_time_of_an_interrupted_training_counts(frames, tmp_path, monkeypatch):
    with monkeypatch.context() as interrupted:
        interrupted.setattr(contest, "_train_peer", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_entrant(tiny("act"), [frames], 0.1, tmp_path, "cpu")
    before = float((tmp_path / "wall_s.txt").read_text())
    trained = train_entrant(tiny("act"), [frames], 0.1, tmp_path, "cpu")
    assert before > 0 and trained.wall_s >= before + trained.seconds


def interrupt(*_):
    time.sleep(0.01)
    raise KeyboardInterrupt


def test_the_table_holds_everyone_and_a_second_run_only_reads(frames, tmp_path, monkeypatch):
    monkeypatch.setattr(policies, "CONDITIONS", {"no delay": Timing(), "S2 delay 1 s": Timing(s2_delay=1.0)})
    monkeypatch.setattr(GymRobot, "max_steps", 25)
    contest = Contest((frames,), 0.2, "tabletop", ("lift",), 1, 100_000, "cpu")
    field = Field((tiny("one"), tiny("two", dim_model=16)))
    document = bench_policies(contest, field, tmp_path, 1)
    rows = document["policies"]
    assert rows["one"]["parameters"] > rows["two"]["parameters"] > 0
    assert rows["two"]["success"]["no delay"]["difference"]["value"] == 0
    for what in ("chunk_ms", "thought_ms"):
        assert rows["one"][what]["p99"] >= rows["one"][what]["p50"] > 0
    page = (tmp_path / "policies.md").read_text()
    assert "| wall time (min) | chunk p50 / p99 (ms) | thought p50 / p99 (ms) |" in page
    assert "Device:\ncpu, and one thread" in page
    assert "| two | 1" in page and "LeRobot's act, batch 2, text 16" in page
    assert (tmp_path / "policies.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "policies.json").read_text())["policies"] == rows
    timed = json.loads((tmp_path / "one" / "speed" / "no-delay.json").read_text())
    assert rows["one"]["chunk_ms"] == timed["s1_ms"], "by one process alone"
    assert bench_policies(contest, field, tmp_path, 1) == document
    with pytest.raises(UserError, match="another contest"):
        bench_policies(contest, Field((tiny("one", dim_model=16),)), tmp_path, 1)


def test_data_of_another_robot_than_the_environments_are_refused_before_training(frames):
    with pytest.raises(UserError, match=r"frames is not of --env aloha: .*trained for another robot"):
        Contest((frames,), 0.2, "aloha", ("all",), 1, 0)


def test_the_device_is_part_of_a_contest_by_its_own_name(frames, monkeypatch):
    contest = Contest((frames,), 0.2, "tabletop", ("lift",), 1, 0)
    for there, device in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert contest.to_dict()["device"] == device


def test_other_data_or_another_recipe_under_the_same_name_is_another_contest(tmp_path):
    data, recipe = tmp_path / "data", tmp_path / "mine.yaml"
    data.mkdir()
    shutil.copy(assets.find("recipe", "tabletop"), recipe)
    entrant = Entrant("ours", recipe=str(recipe))
    (data / "stats.json").write_text("{}")
    before = content(entrant, [data])
    _claim(tmp_path / "ours", before)
    _claim(tmp_path / "ours", content(entrant, [data]))
    (data / "stats.json").write_text('{"more": 1}')
    with pytest.raises(UserError, match="another contest"):
        _claim(tmp_path / "ours", content(entrant, [data]))
    recipe.write_text(recipe.read_text() + "seed: 7\n")
    assert content(entrant, [data])["recipe"] != before["recipe"]


def test_the_shipped_contests_are_read_and_can_be_cut():
    assert [one.name for one in load_field("metaworld-mt10").policies] == ["tandem", "act", "smolvla"]
    field = load_field("tabletop")
    assert [one.name for one in field.policies] == ["l1", "flow", "bins", "fast", "act", "diffusion", "smolvla"]
    assert [one.name for one in entrants(field, ["act", "l1"]).policies] == ["l1", "act"]
    with pytest.raises(UserError, match="no policy 'pi0' in the contest; there are l1"):
        entrants(field, ["pi0"])


@pytest.mark.parametrize(("name", "who"), SHIPPED)
def test_a_peer_of_a_shipped_contest_is_made_takes_a_step_and_drives(name, who, frames_of, tmp_path):
    if who == "diffusion":
        pytest.importorskip("diffusers")
    (entrant,) = entrants(load_field(name), [who]).policies
    few = replace(entrant, peer=replace(entrant.peer, batch=2))
    trained = train_entrant(few, [frames_of(name.removesuffix("-mt10"))], 1e-3, tmp_path / "out", "cpu")
    peer = PeerPolicy.from_pretrained(trained.policy)
    assert peer.config.replan_steps == entrant.peer.options["n_action_steps"]
    camera = {c.name: np.zeros((c.height, c.width, 3), np.uint8) for c in peer.spec.cameras}
    thought = peer.think(camera, "lift the red cube", 0.0)
    none = np.zeros((0, peer.spec.action_size), np.float32)
    chunk = peer.act(camera, np.zeros(peer.spec.state_size, np.float32), thought, 0.0, none)
    assert chunk.shape[1] == peer.spec.action_size and np.isfinite(chunk).all()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "a"}, "either a recipe or a peer"),
        ({"name": "a/b", "recipe": "tabletop"}, "it names a folder"),
        ({"name": "a", "recipe": "tabletop", "shares": [0.5, 0.5]}, r"a\.shares must be 3 numbers"),
        ({"name": "a", "recipe": "tabletop", "change": {"fast": {"hed": "l1"}}}, "did you mean head"),
        ({"name": "a", "recipe": "no-such-recipe"}, "unknown recipe"),
    ],
)
def test_a_contest_that_cannot_be_is_one_line(tmp_path, entry, message):
    file = tmp_path / "contest.yaml"
    file.write_text(yaml.safe_dump({"policies": [entry]}))
    with pytest.raises(UserError, match=message):
        load_field(file)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (PeerRecipe("act", options={"chunk_sise": 3}), "act: LeRobot cannot make it: .*chunk_sise"),
        (PeerRecipe("no-such-type"), "no-such-type: LeRobot cannot make it"),
    ],
)
def test_a_peer_that_lerobot_does_not_know_is_one_line(examples, recipe, message):
    with pytest.raises(UserError, match=message):
        new_peer(recipe, examples, 0)
