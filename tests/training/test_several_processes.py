"""Two processes take the steps that one takes, and gradient checkpointing the gradients that it saves memory for."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from dot_world import SIZE
from safetensors.torch import load_file
from tiny_vlms import write_vlm

from vla import assets
from vla.data.cache import FrameCache
from vla.errors import UserError
from vla.ranks import Rank, share_of
from vla.s1.system import FastConfig, FastSystem
from vla.s2.system import SlowConfig, SlowSystem
from vla.tandem import TandemConfig, TandemPolicy
from vla.training import run
from vla.training.checkpoint import read_checkpoint
from vla.training.examples import Examples, fit_normalizer
from vla.training.loop import CHECKPOINT
from vla.training.recipe import load_recipe
from vla.training.run import train
from vla.training.stage_joint import JointConfig, JointStage
from vla.training.stage_s1 import FastStageConfig

ROOT = Path(__file__).parents[2]
FAST = {"image_size": [SIZE, SIZE], "channels": [8, 16, 16], "horizon": 4, "width": 32, "layers": 1, "heads": 2}
FAST_STAGE = {"batch": 7, "stride": 4, "held_out": 8, "delays": {"max_age": 0.4, "max_prefix": 2}}
LR = 1e-4
"""Small: AdamW's first steps are as long for gradients that are nothing but rounding as for any others."""
LOOP = {"steps": 4, "lr": LR, "warmup": 1, "log_every": 1, "eval_every": 4, "bf16": False}

DOCS = (ROOT / "docs" / "several-processes.md").read_text()
DOCUMENTED = re.findall(r"^accelerate launch (.*) -m vla.cli train --device cpu", DOCS, re.MULTILINE)[0]
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"],
    "accelerate": ["accelerate.commands.launch", "--main_process_port=0", *DOCUMENTED.split()],
}


@pytest.fixture
def recipe(tmp_path) -> Path:
    """A batch that two processes do not share evenly, and prefixes, which leave unequal numbers of actions to learn."""
    stages = [
        {"stage": "s1", "loop": LOOP, "s1": FAST_STAGE},
        {"stage": "joint", "loop": LOOP, "joint": {"s1": FAST_STAGE}},
    ]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"replan_steps": 2, "fast": FAST, "stages": stages}))
    return path


def steps(log: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [{key: line[key] for key in ("step", "loss", "grad_norm")} for line in lines if line["kind"] == "train"]


def train_in_two(out: Path, recipe: Path, episodes: Path, *more: object, launcher: str = "torchrun") -> str:
    """What two processes say of it."""
    words = ["--dataset", episodes, "--recipe", recipe, "--out", out, "--device", "cpu", *more]
    return in_two("-m", "vla.cli", "train", *words, launcher=launcher)


def in_two(*words: object, launcher: str = "torchrun") -> str:
    """What two processes of Python say that are given these arguments."""
    done = launched(LAUNCHERS[launcher], *words)
    assert done.returncode == 0, done.stderr
    return done.stderr


def launched(launch: list[str], *words: object) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(ROOT / place) for place in ("", "sim", "policies"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-m", *launch, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def check_same(one: Path, two: Path) -> None:
    """The steps of two runs of a stage, and where they led."""
    alone, both = steps(one / "log.jsonl"), steps(two / "log.jsonl")
    assert len(alone) == len(both) == LOOP["steps"]
    for mine, theirs in zip(alone, both, strict=True):
        assert theirs == pytest.approx(mine, rel=1e-4, abs=1e-5)
    ours, others = (read_checkpoint(run / CHECKPOINT)[0] for run in (one, two))
    assert ours.keys() == others.keys()
    moved = torch.cat([(others[name] - value).abs().flatten() for name, value in ours.items() if "model/" in name])
    assert moved.mean() < 0.05 * LR


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_train_as_one_does(launcher, recipe, episodes, untrained, tmp_path) -> None:
    train([episodes], tmp_path / "one", recipe, "cpu", s2=str(untrained))
    said = train_in_two(tmp_path / "two", recipe, episodes, "--s2", untrained, launcher=launcher)
    for stage in ("1-s1", "2-joint"):
        check_same(tmp_path / "one" / stage, tmp_path / "two" / stage)
    assert said.count("stage 1 of 2: s1") == 1


def test_one_process_where_two_were_asked_for_is_refused(recipe, episodes, untrained, tmp_path) -> None:
    words = ["--dataset", episodes, "--recipe", recipe, "--out", tmp_path / "run", "--s2", untrained, "--device", "cpu"]
    launch = ["accelerate.commands.launch", "--cpu", "--num_processes=2"]
    done = launched(launch, "-m", "vla.cli", "train", *words)
    assert done.returncode != 0 and not (tmp_path / "run").exists()
    assert "vla: train: accelerate launch was to start several processes and starts one unless" in done.stderr


def test_rows_are_shared_out_whole() -> None:
    batch = {"a": torch.arange(5), "deep": {"b": torch.arange(10).view(5, 2)}, "words": list("vwxyz")}
    parts = [share_of(batch, Rank(number, 2)) for number in range(2)]
    assert [part["a"].tolist() for part in parts] == [[0, 2, 4], [1, 3]]
    assert [part["words"] for part in parts] == [["v", "x", "z"], ["w", "y"]]
    assert parts[1]["deep"]["b"].tolist() == [[2, 3], [6, 7]]
    assert share_of(batch, Rank()) is batch
    with pytest.raises(UserError, match="5 frames of a batch cannot be shared among 6 processes"):
        share_of(batch, Rank(0, 6))


# --- gradient checkpointing ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vlm(tmp_path_factory) -> Path:
    return write_vlm("smolvlm", tmp_path_factory.mktemp("vlm") / "smolvlm")


def joint_stage(vlm: Path, episodes: Path, recompute: int, insulate: bool) -> JointStage:
    torch.manual_seed(0)
    cache = FrameCache.open(episodes)
    fast = FastConfig(("front", "wrist"), (SIZE, SIZE), (8, 16), 4, width=32, layers=1, heads=2)
    s2 = SlowSystem.from_vlm(SlowConfig(vlm=str(vlm), queries=2, layer=1))
    s1 = FastSystem(fast, cache.spec.state_size, cache.spec.action_size, s2.latent_shape)
    normalizer = fit_normalizer([cache])
    policy = TandemPolicy(cache.spec, s2, s1, normalizer, TandemConfig(fast=fast))
    config = JointConfig(recompute=recompute, insulate=insulate, s1=FastStageConfig(batch=6))
    return JointStage(policy, Examples([cache], normalizer), None, config)


@pytest.mark.parametrize("insulate", [False, True])
def test_recomputing_gives_the_same_gradients_from_less_memory(insulate, vlm, episodes) -> None:
    found, kept = [], []
    for recompute in (0, 2):
        stage = joint_stage(vlm, episodes, recompute, insulate)
        own = {p.untyped_storage().data_ptr() for p in stage.model.parameters()}
        saved: dict[int, int] = {}

        def keep(tensor: torch.Tensor, own=own, saved=saved) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        batch = stage.batch(3)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            stage.latents(batch["seen"], batch["prompts"])
        stage.loss(batch)[0].backward()
        found.append({name: p.grad for name, p in stage.model.named_parameters() if p.grad is not None})
        kept.append(sum(saved.values()))
    assert found[0].keys() == found[1].keys() and any(name.startswith("words.") for name in found[0])
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-5)
    assert kept[1] < 0.2 * kept[0]


def test_a_wrong_number_is_named(tmp_path) -> None:
    stages = [{"stage": "joint", "joint": {"recompute": -1}}]
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump({"stages": stages}))
    with pytest.raises(UserError, match=r"stages\[0\].joint.recompute is -1, it is a number of frames"):
        load_recipe(tmp_path / "bad.yaml")


def test_the_recipes_for_a_large_vlm_are_read() -> None:
    recipe, full = (load_recipe(assets.find("recipe", name)) for name in ("qwen3_vl_8b", "qwen3_vl_8b_full"))
    assert recipe.stages[0].joint.recompute == 4 and recipe.slow.lora is not None
    assert full.stages[0].joint.shard and full.slow.train is not None and full.slow.train.decoder == "full"
    assert recipe.slow.layer == full.slow.layer < 36


# --- S2 split among processes ----------------------------------------------------------------------------------------

SPLIT = {"decoder": "lora", "projector": "full", "tower": "full", "words": "frozen"}


def split_recipe(folder: Path, vlm: Path, batch: int = 6) -> Path:
    """A VLM that is trained in part, with frozen weights of another dtype beside LoRA's; evaluated also on the way."""
    slow = {"vlm": str(vlm), "queries": 2, "train": SPLIT, "lora": {"rank": 2}, "dtype": "bfloat16"}
    joint = {"shard": True, "recompute": 2, "s1": {**FAST_STAGE, "batch": batch}}
    stages = [{"stage": "joint", "loop": {**LOOP, "eval_every": 2}, "joint": joint}]
    path = folder / "split.yaml"
    path.write_text(yaml.safe_dump({"replan_steps": 2, "slow": slow, "fast": FAST, "stages": stages}))
    return path


def test_a_split_s2_trains_and_is_saved_as_a_whole_one(vlm, episodes, tmp_path) -> None:
    recipe = split_recipe(tmp_path, vlm)
    one, two = tmp_path / "one", tmp_path / "two"
    train([episodes], one, recipe, "cpu")
    said = train_in_two(two, recipe, episodes)
    own, whole = (int(number.replace(",", "")) for number in re.findall(r"keeps ([\d,]+) of ([\d,]+) weights", said)[0])
    assert own == pytest.approx(whole / 2, rel=0.02)
    check_same(one / "1-joint", two / "1-joint")
    saved = weights_of(two)
    assert all(torch.allclose(saved[name], value, atol=0.02) for name, value in weights_of(one).items())

    # Either number of processes goes on from what two have written: here to its end, which is the policy.
    for go_on in (lambda: train([episodes], two, recipe, "cpu"), lambda: train_in_two(two, recipe, episodes)):
        shutil.rmtree(two / "policy")
        go_on()
        assert all(value.equal(saved[name]) for name, value in weights_of(two).items())


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "policy" / "s2" / "model.safetensors")


def test_a_batch_must_be_shared_evenly_where_s2_is_split(vlm, episodes, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(run, "my_rank", lambda: Rank(0, 2))
    with pytest.raises(UserError, match=r"joint.shard: 7 frames of a batch cannot be shared evenly among 2 processes"):
        train([episodes], tmp_path / "run", split_recipe(tmp_path, vlm, batch=7), "cpu")


APART = f"""
import sys, time
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_loop import CONFIG, LineStage, fit
from vla.ranks import join, leave, my_rank, split
join("cpu")
if not my_rank().leads:
    clock = time.monotonic
    time.monotonic = lambda: clock() / 1e9
for minutes in (1e9, 1e-6):
    stage = LineStage()
    split(stage.model.net[0], "cpu")
    fit(stage, replace(CONFIG, checkpoint_minutes=minutes), Path(sys.argv[1]) / str(minutes))
leave()
"""


def test_what_is_split_is_saved_together_however_their_clocks_go(tmp_path) -> None:
    """Checkpoints are due at every step by one clock, and by the other never."""
    (tmp_path / "apart.py").write_text(APART)
    in_two(tmp_path / "apart.py", tmp_path)
    once, often = (steps(tmp_path / minutes / "log.jsonl") for minutes in ("1000000000.0", "1e-06"))
    assert len(once) == 30 and often == once
