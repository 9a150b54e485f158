"""What differs between kinds of vision-language models: names of their parts and the shape of their prompt.

Everything else is the model's own `forward` and its own processor. A kind that is not listed here may well work:
add a line, and the family to `tests/s2/test_vlm_families.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from vla.errors import UserError


@dataclass(frozen=True)
class Family:
    """One kind of VLM, as `transformers` has it.

    decoder, tower, projector: the parts, as attribute paths inside `model.model`. A projector may lie inside the tower.
    placeholder: the processor's attribute that holds the token standing for an image in a prompt.
    closing: what follows that token and belongs to the image.
    clips: frames of a camera are read as one video; elsewhere they are that many images.
    prefix: the images see the words (prefix LM), so that another question is another look.
    mrope: positions have three axes; the model itself counts them and says where the text goes on.
    first: position of the first token.
    bare: the sequence begins with nothing but image tokens, and pixels need scaling only: our own small S2.
    uncast: image features are put among the words' embeddings as they are, which under autocast have another dtype.
    options: for the image processor. A robot's camera is looked at whole: one picture, no crops.
    """

    decoder: str = "language_model"
    tower: str = "vision_tower"
    projector: tuple[str, ...] = ("multi_modal_projector",)
    placeholder: str = "image_token"
    closing: str = ""
    clips: bool = False
    prefix: bool = False
    mrope: bool = False
    first: int = 0
    bare: bool = False
    uncast: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


_LLAVA = Family()
_IDEFICS = Family("text_model", "vision_model", ("connector",), uncast=True, options={"do_image_splitting": False})
_QWEN = Family(tower="visual", projector=("visual.merger",), closing="<|vision_end|>", clips=True, mrope=True)

FAMILIES: Mapping[str, Family] = {
    "llava": _LLAVA,
    "smolvlm": _IDEFICS,
    "idefics3": _IDEFICS,
    "qwen2_5_vl": _QWEN,
    "qwen3_vl": replace(_QWEN, projector=("visual.merger", "visual.deepstack_merger_list")),
    "paligemma": Family(prefix=True, first=1),
    "gemma3": Family(placeholder="boi_token", options={"do_pan_and_scan": False}),
    "internvl": Family(options={"crop_to_patches": False}),
}


def check_kind(kind: object, where: object) -> str:
    """The same, a `model_type`; UserError names the kinds there are."""
    if kind not in FAMILIES:
        raise UserError(f"VLM {where}: its kind is {kind}; S2 can be one of {', '.join(sorted(FAMILIES))}")
    return str(kind)


def family_of(config: Any, where: object) -> Family:
    """The family of a model by its configuration; UserError names the kinds there are."""
    kind = check_kind(getattr(config, "model_type", None), where)
    bare = getattr(config.vision_config, "model_type", None) == "conv_tower"
    return replace(FAMILIES[kind], bare=True) if bare else FAMILIES[kind]


def cast_features(model: Any, family: Family) -> None:
    """Give the image features of a family that does not see to it itself the dtype of the words' embeddings."""
    if family.uncast:
        dtype = model.get_input_embeddings().weight.dtype
        attrgetter(family.projector[0])(model.model).register_forward_hook(partial(_cast, dtype))


def _cast(dtype: torch.dtype, _projector: nn.Module, _inputs: Any, features: Tensor) -> Tensor:
    return features.to(dtype)
