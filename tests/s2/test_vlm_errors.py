"""What is wrong with a VLM is said in one line."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_vlms import tokenizer, write_vlm

from vla.errors import UserError
from vla.s2.parts import LoraSettings, set_trained
from vla.s2.system import SlowConfig, SlowSystem


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_vlm("llava", tmp_path / "llava")


def refused(vlm: object, **config: object) -> str:
    with pytest.raises(UserError) as caught:
        SlowSystem.from_vlm(replace(SlowConfig(vlm=str(vlm)), **config))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_that_is_not_there(tmp_path) -> None:
    assert "there is no such folder" in refused(tmp_path / "nowhere")
    assert "a hub id looks like owner/name" in refused("qwen")


@pytest.mark.parametrize("kind", ["blip-2", "nonsense"])
def test_a_kind_that_s2_cannot_read(kind, tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    assert f"its kind is {kind}; S2 can be one of gemma3, idefics3, internvl" in refused(tmp_path)


def test_a_folder_with_half_a_model(folder) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert f"VLM {folder} cannot be read" in refused(folder)


def test_a_tokenizer_without_an_image_token(folder) -> None:
    tokenizer().save_pretrained(folder)
    assert "its tokenizer has no image token <image>" in refused(folder)


def test_a_chat_template_without_images(folder) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'][-1]['text'] }}{% endfor %}")
    s2 = SlowSystem.from_vlm(SlowConfig(vlm=str(folder)))
    with pytest.raises(UserError, match="its chat template has no place for 1 images before the words"):
        s2(torch.zeros(1, 1, 32, 32, 3, dtype=torch.uint8), ["lift it"])


def test_a_layer_it_does_not_have(folder) -> None:
    assert "layer is 4, the model has 4 decoder layers" in refused(folder, layer=4)


def test_an_int8_s2_is_not_trained(folder) -> None:
    s2 = SlowSystem.from_vlm(SlowConfig(vlm=str(folder), int8=True, lora=LoraSettings()))
    with pytest.raises(UserError, match="an int8 S2 is for serving"):
        set_trained(s2)


def said(code: str, home: Path, **settings: str) -> list[str]:
    """Lines that Python prints with the hub's cache in `home`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_HOME": str(home), **settings}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip().splitlines()


def test_a_hub_id_is_read_from_the_local_cache_without_a_hub(folder, tmp_path) -> None:
    cache = tmp_path / "home" / "hub" / "models--someone--some-vlm"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, cache / "snapshots" / ("0" * 40))
    code = (
        "from vla.s2.system import SlowConfig, SlowSystem\n"
        "s2 = SlowSystem.from_vlm(SlowConfig(vlm='someone/some-vlm'))\n"
        "print(sum(p.double().sum().item() for p in s2.model.parameters()))"
    )
    own = SlowSystem.from_vlm(SlowConfig(vlm=str(folder)))
    lines = said(code, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert float(lines[-1]) == pytest.approx(sum(p.double().sum().item() for p in own.model.parameters()))


@pytest.mark.parametrize("settings", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_a_hub_out_of_reach(tmp_path, settings) -> None:
    code = (
        "from vla.s2.system import SlowConfig, SlowSystem\n"
        "from vla.errors import UserError\n"
        "try: SlowSystem.from_vlm(SlowConfig(vlm='someone/some-vlm'))\n"
        "except UserError as error: print(error)"
    )
    lines = said(code, tmp_path, **settings)
    assert len(lines) == 1
    assert "VLM someone/some-vlm: it is not in the local cache and the hub is out of reach" in lines[0]
    assert "hf download someone/some-vlm --local-dir FOLDER" in lines[0]
