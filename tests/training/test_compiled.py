"""`compile: true`: the steps are those of plain training, and what cannot compile says so in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dot_world import SIZE
from test_recipe import FAST_STAGE

from vla.s1.system import FastConfig, FastSystem
from vla.training.checkpoint import read_checkpoint
from vla.training.compiled import compile_blocks
from vla.training.loop import CHECKPOINT
from vla.training.run import train

ROOT = Path(__file__).parents[2]


def write_recipe(path: Path, compiled: bool) -> Path:
    """S1 alone, and little of it: a CPU takes seconds to compile a block, once for training and once for evaluation."""
    loop = {"steps": 2, "lr": 1e-4, "warmup": 1, "log_every": 1, "eval_every": 2, "bf16": False, "compile": compiled}
    fast = {"cameras": ["front"], "image_size": [SIZE, SIZE], "channels": [8], "horizon": 4, "width": 16, "layers": 1}
    stages = [{"stage": "s1", "loop": loop, "s1": FAST_STAGE}]
    path.write_text(yaml.safe_dump({"replan_steps": 2, "fast": {**fast, "heads": 2, "mlp": 16}, "stages": stages}))
    return path


def test_a_compiled_run_takes_the_steps_of_a_plain_one(episodes, untrained, tmp_path) -> None:
    plain, compiled = (tmp_path / name for name in ("plain", "compiled"))
    for out in (plain, compiled):
        recipe = write_recipe(tmp_path / f"{out.name}.yaml", out == compiled)
        train([episodes], out, recipe, "cpu", s2=str(untrained))
    for mine, theirs in zip(*(logged(out / "1-s1") for out in (plain, compiled)), strict=True):
        assert theirs == pytest.approx(mine, rel=1e-3, abs=1e-4)
    ours, others = (read_checkpoint(out / "1-s1" / CHECKPOINT)[0] for out in (plain, compiled))
    assert ours.keys() == others.keys()


def test_the_blocks_are_what_is_compiled() -> None:
    s1 = FastSystem(FastConfig(channels=(8, 16), width=16, layers=2, heads=2), 3, 2, (2, 8))
    names = set(s1.state_dict())
    compile_blocks(s1)
    compiled = [name for name, module in s1.named_modules() if module._compiled_call_impl is not None]
    stages = [f"cameras.{camera}.stages.{i}" for camera in ("front", "wrist") for i in range(2)]
    assert compiled == [*stages, "trunk.blocks.0", "trunk.blocks.1"]
    assert set(s1.state_dict()) == names


def logged(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("kind", "steps_per_s")} for line in lines]


def test_without_a_compiler_one_line_says_so_before_anything_is_written(episodes, untrained, tmp_path) -> None:
    recipe, out = write_recipe(tmp_path / "tiny.yaml", True), tmp_path / "run"
    words = ["train", "--dataset", episodes, "--s2", untrained, "--recipe", recipe, "--out", out, "--device", "cpu"]
    nowhere = {"CXX": str(tmp_path / "g++"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    paths = os.pathsep.join(str(ROOT / place) for place in ("", "sim", "policies"))
    command = [sys.executable, "-m", "vla.cli", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": paths, **nowhere}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and not out.exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith("vla: training config: compile: PyTorch cannot compile on this machine (")
    assert "g++" in line and line.endswith("or leave compile out")
