"""Reading in two steps: the images once, then as many texts as wanted from the same key-value cache.

The first is the VLM's own `forward`, so that whatever its kind does with images is done by it; the second is its
decoder alone. Both run as many decoder layers as they are given.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from vla.s2.adapters import Family


@dataclass(frozen=True)
class Prefix:
    """What was read so far: its key-value cache, mask (B, S) and next positions (B, 1); see SlowOutput for the rest."""

    cache: DynamicCache
    mask: Int[Tensor, "B S"]
    next: Int[Tensor, "B 1"]
    visual: Tensor | None = None
    maps: tuple[Tensor, ...] = ()

    @property
    def length(self) -> int:
        return self.mask.shape[1]

    def at(self, rows: Sequence[int]) -> Prefix:
        """One to go on from, once, with a question about each of `rows`."""
        if list(rows) == list(range(len(self.mask))):
            return self
        index = torch.tensor(rows, device=self.mask.device)
        layers: list[Any] = self.cache.layers  # its types leave open whether there is anything in it yet
        read = [layer for layer in layers if layer.is_initialized]
        cache = DynamicCache([(layer.keys[index], layer.values[index]) for layer in read])
        return replace(self, cache=cache, mask=self.mask[index], next=self.next[index])


def look(model: Any, family: Family, inputs: Mapping[str, Tensor], decoder: Any) -> Prefix:
    """inputs: what the processor made of the images and all up to the words."""
    known = inspect.signature(type(model.model).forward).parameters
    given = {
        name: value.to(model.dtype) if value.is_floating_point() else value
        for name, value in inputs.items()
        if name in known
    }
    mask = inputs["attention_mask"]
    if not family.mrope:
        given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0) + family.first
    network = _with_child(model.model, family.decoder, decoder)
    cache = network(**given, past_key_values=DynamicCache(), use_cache=True).past_key_values
    offset = network.rope_deltas if family.mrope else family.first
    return Prefix(cache, mask, mask.sum(1, keepdim=True) + offset)


def look_bare(model: Any, pixels: Float[Tensor, "B V 3 S S"], decoder: Any) -> Prefix:
    """Of a sequence that begins with nothing but image tokens; also keeps what the training-only heads read."""
    batch, views = pixels.shape[:2]
    seen = model.get_image_features(pixels.flatten(0, 1), return_dict=True)
    visual = torch.stack(tuple(seen.pooler_output)).unflatten(0, (batch, views)).flatten(1, 2)
    cache = decoder(inputs_embeds=visual, use_cache=True).past_key_values
    mask = torch.ones(visual.shape[:2], dtype=torch.long, device=visual.device)
    return Prefix(cache, mask, mask.sum(1, keepdim=True), visual, tuple(seen.hidden_states))


def go_on(
    prefix: Prefix, embeds: Float[Tensor, "Q T D"], mask: Int[Tensor, "Q L"], decoder: Any, depth: int | None = None
) -> tuple[Float[Tensor, "Q T D"], Float[Tensor, "Q T D"]]:
    """Continue what was read with `embeds`; the prefix' cache grows by them. Returns states at the end and at `depth`.

    mask: 1 for what is real in all text so far (L >= T), 0 for padding before short prompts. Positions skip
    the padding, so a short prompt reads the same alone and in a batch.
    """
    positions = (prefix.next + mask.cumsum(1) - 1)[:, -embeds.shape[1] :].clamp(min=0)
    above = depth is not None and depth < len(decoder.layers)
    out = decoder(
        inputs_embeds=embeds,
        attention_mask=torch.cat([prefix.mask, mask], 1),
        position_ids=positions,
        past_key_values=prefix.cache,
        use_cache=True,
        output_hidden_states=above,
    )
    return out.last_hidden_state, decoder.norm(out.hidden_states[depth]) if above else out.last_hidden_state


def shallow(decoder: Any, depth: int) -> Any:
    """The first `depth` layers of a decoder: the same weights, nothing above."""
    return decoder if depth == len(decoder.layers) else _with_child(decoder, "layers", decoder.layers[:depth])


def window(config: Any) -> int | None:
    """How far back some layer of a decoder looks, if not to the beginning."""
    kinds = getattr(config, "layer_types", None)
    slides = kinds is None or "sliding_attention" in kinds
    return getattr(config, "sliding_window", None) if slides else None


def _with_child(module: Any, name: str, child: Any) -> Any:
    """The same module with another child, sharing all else; the original stays as it is."""
    changed = copy.copy(module)
    changed._modules = {**module._modules, name: child}
    return changed
