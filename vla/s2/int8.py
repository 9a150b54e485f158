"""Weights of S2's linear layers in int8, as `torchao` does it: a scale per row, activations as they were.

For serving: half or a quarter of the memory, and of what a small batch waits for.
"""

from __future__ import annotations

import warnings

from torch import nn

from vla.errors import UserError


def to_int8(model: nn.Module) -> None:
    """In place; tied weights (the output head of most small models) stay, since the embeddings are read in rows.

    Raises UserError if torchao is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise UserError("an int8 S2 needs torchao: pip install 'vla[vlm]'") from error
    embedded = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}

    def wanted(module: nn.Module, _: str) -> bool:
        return isinstance(module, nn.Linear) and id(module.weight) not in embedded

    quantize_(model, Int8WeightOnlyConfig(), filter_fn=wanted)
