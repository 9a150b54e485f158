"""S1 in ONNX Runtime says what S1 says in PyTorch, and is never used with other weights."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vla import assets
from vla.errors import UserError
from vla.many import open_policy
from vla.s1.engine import Engine, example, export_engine
from vla.s1.system import FastConfig, FastSystem
from vla.tandem import CONFIG_FILE, ENGINE_FILE, TandemPolicy
from vla.training.export import export
from vla.training.quantize import quantize


def small(head: str, flow_steps: int = 5) -> FastSystem:
    torch.manual_seed(0)
    config = FastConfig(("front",), (32, 48), (8, 16, 32), 4, head, width=32, layers=1, heads=2, mlp=32, summary=True)  # type: ignore[arg-type]
    return FastSystem(replace(config, flow_steps=flow_steps), 5, 3, (2, 8)).eval()


@pytest.mark.parametrize(("head", "flow_steps"), [("l1", 5), ("flow", 1), ("flow", 10), ("bins", 5)])
def test_every_head_that_works_in_one_go_says_the_same(tmp_path: Path, head: str, flow_steps: int) -> None:
    s1, file = small(head, flow_steps), tmp_path / "s1.onnx"
    export_engine(s1, file, "these")
    engine = Engine(file, "these")
    for seed, age in enumerate((0.3, 1.9, 7.0, float("nan"))):
        image, *rest = example(s1, seed)
        rest[2] = torch.tensor([age])
        torch.testing.assert_close(
            engine.act({"front": image}, *rest), s1.act({"front": image}, *rest), atol=1e-3, rtol=0
        )


def test_a_head_that_decodes_token_by_token_is_refused(tmp_path: Path) -> None:
    s1 = small("l1")
    s1.config = FastConfig(head="fast")
    with pytest.raises(UserError, match="token by token"):
        export_engine(s1, tmp_path / "s1.onnx", "")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("engine") / "policy"
    assert export(assets.find("policy", "tabletop"), out).difference < 1e-2
    return out


def test_a_policy_with_an_engine_acts_through_it_and_as_before(exported: Path) -> None:
    fast, plain = (TandemPolicy.from_pretrained(folder) for folder in (exported, assets.find("policy", "tabletop")))
    assert fast.engine is not None and plain.engine is None
    random = np.random.default_rng(0)
    images = {camera.name: random.integers(0, 255, (96, 96, 3)).astype(np.uint8) for camera in plain.spec.cameras}
    state = np.zeros(plain.spec.state_size, np.float32)
    thought = plain.think(images, "lift the red cube", 0.0)
    committed = np.full((2, 7), 0.001, np.float32)
    theirs = plain.act(images, state, thought, 0.4, committed)
    with torch.no_grad():
        for parameter in fast.s1.parameters():
            parameter.fill_(float("nan"))  # only the engine can still answer
    np.testing.assert_allclose(fast.act(images, state, thought, 0.4, committed), theirs, atol=1e-3)


def test_an_engine_of_other_weights_is_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="made of other weights; make it anew with vla export"):
        Engine(exported / ENGINE_FILE, "others")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes((exported / ENGINE_FILE).read_bytes()[:5000])
    with pytest.raises(UserError, match=r"broken\.onnx cannot be read"):
        Engine(broken, "any")


def test_an_engine_of_other_steps_is_refused(untrained: Path, tmp_path: Path) -> None:
    policy = TandemPolicy.from_pretrained(untrained)
    fast = replace(policy.config.fast, head="flow")
    s1 = FastSystem(fast, policy.s1.state_size, policy.s1.action_size, policy.s1.latent_shape)
    flow = TandemPolicy(policy.spec, policy.s2, s1, policy.normalizer, replace(policy.config, fast=fast))
    flow.save_pretrained(tmp_path / "flow")
    export(tmp_path / "flow", tmp_path / "exported")
    assert TandemPolicy.from_pretrained(tmp_path / "exported").engine is not None
    config = tmp_path / "exported" / CONFIG_FILE
    config.write_text(config.read_text().replace('"flow_steps": 5', '"flow_steps": 2'))
    with pytest.raises(UserError, match="make it anew with vla export"):
        TandemPolicy.from_pretrained(tmp_path / "exported")


@pytest.fixture
def damaged(exported: Path, tmp_path: Path) -> Path:
    """The policy beside an engine that nothing can read."""
    folder = shutil.copytree(exported, tmp_path / "damaged")
    (folder / ENGINE_FILE).write_bytes(b"no more")
    return folder


def test_a_damaged_engine_is_made_anew_as_the_message_says(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make it anew with vla export"):
        TandemPolicy.from_pretrained(damaged)
    assert open_policy(damaged).engine is None  # type: ignore[union-attr]
    export(damaged, tmp_path / "whole")
    assert TandemPolicy.from_pretrained(tmp_path / "whole").engine


def test_int8_and_an_engine_go_together_in_either_order(exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    quantize(exported, tmp_path / "quantized")
    export(tmp_path / "quantized", tmp_path / "both")
    for name in ("quantized", "both"):
        policy = TandemPolicy.from_pretrained(tmp_path / name)
        assert policy.engine and policy.s2.config.int8
        policy.s2(torch.zeros(1, 1, 96, 96, 3, dtype=torch.uint8), ["lift the red cube"])


def test_weights_that_are_saved_anew_leave_the_old_engine_behind(exported: Path) -> None:
    policy = TandemPolicy.from_pretrained(exported)
    (exported / "README.md").write_text("kept")
    policy.save_pretrained(exported)
    assert (exported / "README.md").is_file() and not (exported / ENGINE_FILE).exists()
