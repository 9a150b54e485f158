"""On a GPU, where there is one: training in bfloat16 and compiled, resuming, an int8 S2 and an evaluation."""

import json
import shutil

import pytest
import torch
import yaml
from test_recipe import TINY

from vla import assets
from vla.cli import main
from vla.tandem import TandemPolicy
from vla.training.quantize import quantize
from vla.training.run import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")
LOOP = {"steps": 2, "warmup": 1, "log_every": 1, "eval_every": 2, "bf16": True, "compile": True}


def test_every_stage_trains_compiled_in_bfloat16_and_goes_on(episodes, stills, tmp_path) -> None:
    recipe, out = tmp_path / "tiny.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump({**TINY, "stages": [{**stage, "loop": LOOP} for stage in TINY["stages"]]}))
    train([episodes, stills], out, recipe, "cuda")
    weights = dict(TandemPolicy.from_pretrained(out / "policy").s1.named_parameters())
    assert all(value.isfinite().all() for value in weights.values())
    for stage in ("1-words", "2-s1", "3-joint"):
        lines = [json.loads(line) for line in (out / stage / "log.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2]

    shutil.rmtree(out / "policy")
    train([episodes, stills], out, recipe, "cuda")
    again = dict(TandemPolicy.from_pretrained(out / "policy").s1.named_parameters())
    assert all(again[name].equal(value) for name, value in weights.items())


def test_an_int8_s2_thinks_there_as_on_the_cpu(tmp_path) -> None:
    quantize(assets.find("policy", "tabletop"), tmp_path / "int8")
    images = torch.randint(0, 256, (2, 1, 96, 96, 3), dtype=torch.uint8)
    here, there = (
        TandemPolicy.from_pretrained(tmp_path / "int8", device).s2.think(images, ["lift the red cube"] * 2)[0]
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(there.cpu(), here, rtol=0.05, atol=0.05)


def test_an_episode_is_evaluated(tmp_path) -> None:
    words = "eval --policy tabletop --env tabletop --episodes 1 --seed 100000 --workers 1 --device cuda --json"
    assert main([*words.split(), str(tmp_path / "eval.json")]) == 0
    assert len(json.loads((tmp_path / "eval.json").read_text())["outcomes"]) == 1
