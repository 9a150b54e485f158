"""Weights of S2 in int8 by `torchao`: a scale per output row, activations as they were.

For serving: a quarter of the memory, and of what a small batch waits for.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from vla.errors import UserError

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchao.quantization import Int8Tensor
        from torchao.quantization.granularity import PerAxis
except ImportError as error:
    raise UserError("an int8 S2 needs torchao: pip install 'vla[vlm]'") from error


class Int8Weight(Int8Tensor):
    """As torchao has it for linear layers; for embeddings too, of which the rows that are read become floats, and for
    convolutions.

    Seen from outside it has the shape and the type of the weight it was made of.
    """


@Int8Weight.implements_torch_function(F.embedding)
def _embed(_function: Any, _types: Any, args: Any, _options: Any) -> Tensor:
    ids, weight = args
    return (weight.qdata[ids] * weight.scale.flatten()[ids].unsqueeze(-1)).to(weight.dtype)


@Int8Weight.implements_torch_function([F.conv2d, F.conv3d])
def _convolve(function: Any, _types: Any, args: Any, options: Any) -> Tensor:
    pixels, weight, *rest = args
    return function(pixels, weight.dequantize(), *rest, **options)


def to_int8(model: Any) -> None:
    """Round a model of `transformers` in place: linear layers, convolutions and the words.

    An output head that is tied to the words stays so. Norms, positions and biases stay: they are few.
    """
    words = model.get_input_embeddings().weight
    rounded = _rounded(words)
    for module in model.modules():
        if getattr(module, "weight", None) is words:
            module.weight = rounded
        elif isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
            module.weight = _rounded(module.weight)


def _rounded(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(Int8Weight.from_hp(weight.detach(), PerAxis(0)), requires_grad=False)
