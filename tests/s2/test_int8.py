"""An int8 S2: a policy whose linear layers are rounded when it is loaded says nearly the same with far less memory."""

from dataclasses import replace

import torch
from tiny_vlms import write_vlm
from torch import nn

from vla.s2.int8 import to_int8
from vla.s2.system import SlowConfig, SlowSystem
from vla.training.quantize import weight_bytes


def test_it_says_nearly_the_same_and_its_linear_layers_take_a_quarter(tmp_path) -> None:
    torch.manual_seed(0)
    s2 = SlowSystem.from_vlm(SlowConfig(vlm=str(write_vlm("llava", tmp_path / "llava")), queries=4)).eval()
    s2.config = replace(s2.config, int8=True)
    s2.save_pretrained(tmp_path / "s2")
    small = SlowSystem.from_pretrained(tmp_path / "s2")
    images = torch.randint(0, 256, (2, 1, 32, 32, 3), dtype=torch.uint8)
    before, after = (of(images, ["lift it", "push it"]).latents for of in (s2, small))
    assert 0 < (after - before).abs().mean() < 0.03 * before.abs().mean()

    small.save_pretrained(tmp_path / "again")
    assert SlowSystem.from_pretrained(tmp_path / "again")(images, ["lift it", "push it"]).latents.equal(after)

    layers = nn.ModuleList(nn.Linear(256, 256, bias=False) for _ in range(4))
    whole = weight_bytes(layers)
    to_int8(layers)
    assert weight_bytes(layers) < 0.27 * whole
