"""Which parts of a VLM are trained, and how: fully, through LoRA, or not at all.

LoRA (arXiv 2106.09685) is `peft`'s; it is merged into the weights when they are saved, so that what is saved is a
plain model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from vla.errors import UserError
from vla.ranks import my_rank, whole

if TYPE_CHECKING:
    from vla.s2.system import SlowSystem

How = Literal["full", "lora", "frozen"]


@dataclass(frozen=True)
class TrainedParts:
    """tower: the vision encoder. projector: from its features to tokens. decoder: its layers.

    words: embeddings and head.
    """

    tower: How = "frozen"
    projector: How = "frozen"
    decoder: How = "lora"
    words: Literal["full", "frozen"] = "frozen"


@dataclass(frozen=True)
class LoraSettings:
    """rank of the update of every linear layer; alpha scales it by alpha / rank."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}, it must be at least 1")


def parts_of(s2: SlowSystem) -> dict[str, list[nn.Parameter]]:
    """The VLM's parameters by the names of TrainedParts; every one is in exactly one part."""
    core, family = s2.model.model, s2.family
    inside = {
        "words": [s2.model.get_input_embeddings(), s2.model.get_output_embeddings()],
        "projector": [attrgetter(path)(core) for path in family.projector],
        "tower": [attrgetter(family.tower)(core)],
        "decoder": [attrgetter(family.decoder)(core)],
    }
    seen: set[int] = set()
    found: dict[str, list[nn.Parameter]] = {}
    # In this order, since a projector may lie inside the tower and the embeddings do inside the decoder.
    for part, modules in inside.items():
        found[part] = []
        for parameter in (p for module in modules for p in module.parameters()):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                found[part].append(parameter)
    rest = [name for name, p in s2.model.named_parameters() if id(p) not in seen]
    assert not rest, f"parameters in no part: {rest}"
    return found


def set_trained(s2: SlowSystem) -> None:
    """Make exactly what the configuration names require gradients, the queries always; the first time, add LoRA.

    Trained weights are float32 from here on: an optimiser's small steps are lost in bfloat16.
    Raises UserError if LoRA is wanted and `peft` is not installed, or S2 is an int8 one.
    """
    config = s2.config
    if config.int8:
        raise UserError("slow.int8: an int8 S2 is for serving and cannot be trained; train it, then vla quantize")
    how = config.train or (TrainedParts() if config.lora else TrainedParts("full", "full", "full", "full"))
    lora = [part for part in ("tower", "projector", "decoder") if getattr(how, part) == "lora"]
    if lora and not has_lora(s2.model):
        _add_lora(s2, lora, config.lora or LoraSettings())
    adapters = {id(p) for name, p in s2.model.named_parameters() if "lora_" in name}
    for part, parameters in parts_of(s2).items():
        for parameter in parameters:
            parameter.requires_grad_(getattr(how, part) == "full" or id(parameter) in adapters)
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    s2.queries.requires_grad_(True)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """What is computed within leaves no gradients in the model's weights, though it may pass them through."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def has_lora(model: nn.Module) -> bool:
    return any("lora_" in name for name, _ in model.named_parameters())


def _add_lora(s2: SlowSystem, parts: list[str], settings: LoraSettings) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError("slow.lora needs peft: pip install 'vla[train]'") from error
    known = parts_of(s2)
    wanted = {id(p) for part in parts for p in known[part]}
    targets = [
        name
        for name, module in s2.model.named_modules()
        if isinstance(module, nn.Linear) and id(module.weight) in wanted
    ]
    if not targets:
        raise UserError(f"slow.train: {', '.join(parts)} has no linear layer that LoRA could be added to; use full")
    inject_adapter_in_model(
        LoraConfig(r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=targets),
        s2.model,
    )


def plain_weights(model: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """The model's weights as its own class names them, LoRA added to what it changes; buffers keep their types.

    Of several processes the first gets them; the others must call this too if the model is split among them.
    """
    weights = {}
    for name, value in _merged(model):
        gathered = whole(value.detach())
        if my_rank().leads:
            weights[name] = gathered.to("cpu", dtype).contiguous()
    kept = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in kept}
    return weights | {name: buffer.to("cpu", copy=True).contiguous() for name, buffer in buffers.items()}


def _merged(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    modules: dict[str, Any] = dict(model.named_modules())
    # named_parameters lists tied weights once, as the hub's own files do.
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            continue
        owner, _, leaf = name.rpartition(".")
        if not owner.endswith(".base_layer"):
            yield name, parameter
            continue
        layer = owner.removesuffix(".base_layer")
        change = modules[layer].get_delta_weight("default").float() if leaf == "weight" else 0.0
        yield f"{layer}.{leaf}", parameter.float() + change
