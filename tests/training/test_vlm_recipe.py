"""A recipe that starts from a VLM: what is trained, what is kept, what is said, and the tutorial's own commands."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from dot_world import SIZE, SPEC
from safetensors import safe_open
from tiny_vlms import write_vlm

from vla import assets
from vla.cli import main
from vla.errors import UserError
from vla.s2.system import SlowConfig, SlowSystem
from vla.tandem import TandemPolicy
from vla.training import loop, precision, run
from vla.training.recipe import load_recipe
from vla.training.run import train

ROOT = Path(__file__).parents[2]
FAST = {"image_size": [SIZE, SIZE], "channels": [8, 16, 16], "horizon": 4, "width": 32, "layers": 1, "heads": 2}
FAST_STAGE = {"batch": 4, "stride": 4, "held_out": 4, "delays": {"max_age": 0.4, "max_prefix": 2}}
LOOP = {"steps": 2, "lr": 0.01, "warmup": 1, "log_every": 1, "eval_every": 2}
WORDS = {"images": 2, "questions": 1, "captions": 1}


@pytest.fixture(scope="module")
def vlm(tmp_path_factory) -> Path:
    return write_vlm("smolvlm", tmp_path_factory.mktemp("vlm") / "smolvlm")


def write_recipe(folder: Path, vlm: Path, stages: list[dict], **slow) -> Path:
    recipe = {"replan_steps": 2, "fast": FAST, "stages": [{"loop": LOOP, **stage} for stage in stages]}
    recipe["slow"] = {"vlm": str(vlm), "queries": 2, "layer": 1, **slow}
    path = folder / "vlm.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def changed(s2: SlowSystem, vlm: Path) -> set[str]:
    """Names of weights that are no more those of the VLM, as far as the checkpoint's bfloat16 shows it."""
    before = dict(SlowSystem.from_vlm(SlowConfig(vlm=str(vlm))).model.named_parameters())
    return {n for n, p in s2.model.named_parameters() if not torch.equal(p, before[n].bfloat16().float())}


def test_episodes_alone_train_lora_and_queries_and_a_run_goes_on(vlm, episodes, tmp_path, capsys) -> None:
    stages = [{"stage": "s1", "s1": FAST_STAGE}, {"stage": "joint", "joint": {"s1": FAST_STAGE}}]
    recipe, out = write_recipe(tmp_path, vlm, stages, lora={"rank": 4}), tmp_path / "run"
    train([episodes], out, recipe, "cpu")
    said = capsys.readouterr().err
    assert re.search(r"memory: weights 0\.00 GB \(\d+ k parameters, [\d.]+ k trained\).* at batch 4: about", said)
    assert re.search(r"time: at most \S+ s a step, \S+ h for 2 steps", said)

    with safe_open(out / "2-joint" / "checkpoint.safetensors", "pt") as file:
        kept = [name for name in file.keys() if name.startswith("model/words.model.")]  # noqa: SIM118 (no mapping)
    assert kept and all("lora_" in name for name in kept)
    policy = TandemPolicy.from_pretrained(out / "policy")
    assert (policy.s2.config.vlm, policy.s2.config.lora.rank) == (str(vlm), 4)
    names = changed(policy.s2, vlm)
    assert names and all(".text_model.layers." in name for name in names)

    weights = (out / "policy" / "s2" / "model.safetensors").read_bytes()
    train([episodes], out, recipe, "cpu")
    assert (out / "policy" / "s2" / "model.safetensors").read_bytes() == weights


def test_an_insulated_vlm_stays_as_it_was_while_its_queries_learn(vlm, episodes, tmp_path) -> None:
    stages = [{"stage": "joint", "joint": {"insulate": True, "s1": FAST_STAGE}}]
    recipe = load_recipe(write_recipe(tmp_path, vlm, stages, lora={"rank": 2}))
    train([episodes], tmp_path / "run", tmp_path / "vlm.yaml", "cpu")
    s2 = TandemPolicy.from_pretrained(tmp_path / "run" / "policy").s2
    assert changed(s2, vlm) == set()
    torch.manual_seed(recipe.seed)
    assert (s2.queries - SlowSystem.from_vlm(recipe.slow).queries).abs().min() > 0


def test_still_scenes_keep_it_talking(vlm, episodes, stills, tmp_path) -> None:
    stages = [
        {"stage": "words", "words": WORDS},
        {"stage": "joint", "words": WORDS, "joint": {"s1": FAST_STAGE}},
    ]
    recipe = write_recipe(tmp_path, vlm, stages, train={"tower": "frozen", "projector": "full", "decoder": "lora"})
    train([episodes, stills], tmp_path / "run", recipe, "cpu")
    policy = TandemPolicy.from_pretrained(tmp_path / "run" / "policy")
    assert {name.split(".")[1] for name in changed(policy.s2, vlm)} == {"connector", "text_model"}
    assert '"word_loss"' in (tmp_path / "run" / "2-joint" / "log.jsonl").read_text()


def test_frozen_weights_stay_half_as_large_where_training_goes_on(vlm, episodes, tmp_path, monkeypatch) -> None:
    """On a device that computes in bfloat16."""
    monkeypatch.setattr(precision, "_cpu_is_quick", lambda: True)
    frozen, trained = [], []

    def look(stage, *how) -> None:
        for found, wanted in ((frozen, False), (trained, True)):
            found.append({p.dtype for p in stage.model.parameters() if p.requires_grad == wanted})
        loop.fit(stage, *how)

    monkeypatch.setattr(run, "fit", look)
    stages = [{"stage": "joint", "joint": {"s1": FAST_STAGE}}]
    recipe = write_recipe(tmp_path, vlm, stages, lora={"rank": 2}, dtype="bfloat16")
    first = str(tmp_path / "first" / "policy")
    for name, start in {"first": {}, "second": {"policy": first}, "third": {"s2": first}}.items():
        train([episodes], tmp_path / name, recipe, "cpu", **start)
    assert frozen == [{torch.bfloat16}] * 3 and trained == [{torch.float32}] * 3


def test_a_vlm_that_is_not_there_is_said_before_anything_is_written(episodes, tmp_path) -> None:
    recipe = write_recipe(tmp_path, tmp_path / "nowhere", [{"stage": "joint"}])
    with pytest.raises(UserError, match="nowhere: there is no such folder"):
        train([episodes], tmp_path / "run", recipe, "cpu")
    assert not (tmp_path / "run").exists()


def write_renamed(episodes: Path, folder: Path) -> Path:
    """The same robot with other names for its cameras."""
    names = {"front": "top", "wrist": "hand"}
    shutil.copytree(episodes, folder)
    for old, new in names.items():
        (folder / f"{old}.npy").rename(folder / f"{new}.npy")
    cameras = tuple(replace(camera, name=names[camera.name]) for camera in SPEC.cameras)
    replace(SPEC, cameras=cameras).save(folder / "robot_spec.yaml")
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"cameras": [*names.values()]}))
    return folder


def test_cameras_that_are_left_open_are_those_of_the_robot(vlm, episodes, tmp_path) -> None:
    stages = [{"stage": "joint", "joint": {"s1": FAST_STAGE}}]
    recipe = write_recipe(tmp_path, vlm, stages, lora={"rank": 2}, cameras=[])
    recipe.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text()) | {"fast": FAST | {"cameras": []}}))
    train([write_renamed(episodes, tmp_path / "renamed")], tmp_path / "run", recipe, "cpu")
    policy = TandemPolicy.from_pretrained(tmp_path / "run" / "policy")
    assert (policy.s2.config.cameras, policy.s1.config.cameras) == (("top",), ("top", "hand"))


def test_a_camera_the_robot_lacks_is_said_before_the_vlm_is_looked_for(episodes, tmp_path) -> None:
    recipe = write_recipe(tmp_path, tmp_path / "nowhere", [{"stage": "joint"}], cameras=["top"])
    renamed = write_renamed(episodes, tmp_path / "renamed")
    with pytest.raises(UserError, match=r"fast.cameras names front, robot dot has top, hand; cameras: \[\] takes"):
        train([renamed], tmp_path / "run", recipe, "cpu")
    assert not (tmp_path / "run").exists()


def blocks(kind: str) -> list[str]:
    text = (ROOT / "docs" / "bring-your-vlm.md").read_text()
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def test_the_shipped_recipes_are_read_and_the_tutorial_shows_one_of_them(tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text(blocks("yaml")[0])
    assert load_recipe(tmp_path / "mine.yaml") == load_recipe(assets.find("recipe", "smolvlm"))
    assert load_recipe(assets.find("recipe", "qwen3_vl")).slow.vlm == "Qwen/Qwen3-VL-2B-Instruct"
    for name in ("smolvlm", "qwen3_vl", "qwen3_vl_8b", "qwen3_vl_8b_full"):
        recipe = load_recipe(assets.find("recipe", name))
        assert recipe.slow.cameras == recipe.fast.cameras == (), "they are for any robot"


def test_the_commands_of_the_tutorial_work(vlm, tmp_path, monkeypatch, capsys) -> None:
    """As written, but for a tiny VLM in place of the hub's, and fewer episodes and steps."""
    monkeypatch.chdir(tmp_path)
    recipe = yaml.safe_load(blocks("yaml")[0])
    recipe["slow"] |= {"vlm": str(vlm), "layer": 1, "queries": 2}
    recipe["fast"] |= {"channels": [8, 16, 16], "width": 32, "layers": 1, "heads": 2, "image_size": [32, 32]}
    recipe["stages"][0]["loop"] |= {"steps": 2, "warmup": 1, "eval_every": 2, "log_every": 1}
    recipe["stages"][0]["joint"]["s1"] |= {"batch": 2, "held_out": 4}
    Path("mine.yaml").write_text(yaml.safe_dump(recipe))
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert [line.split()[1] for line in lines] == ["collect", "train", "eval", "quantize", "eval"]
    for line in lines:
        argv = shlex.split(line.replace("--episodes 4000", "--episodes 20").replace("--episodes 200 ", "--episodes 1 "))
        assert main([*argv[1:], *(["--workers", "1"] if argv[1] in ("collect", "eval") else [])]) == 0, line
    assert re.search(r"S2's weights: [\d.]+ MB in float32, [\d.]+ MB in int8", capsys.readouterr().out)
