"""`compile: true` in a stage's loop: the blocks of what it trains, compiled by `torch.compile`.

The blocks, which are alike and compute, and not the whole: what lies between them reads words, grows caches and picks
questions, and would be compiled anew at every step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla.errors import UserError

VARIANTS = 128
"""Of one block's code, at most: by the layer's number, in training and evaluation, for lengths that change."""


def check_compiler(device: str) -> None:
    """UserError unless PyTorch can compile for the device."""
    try:
        torch.compile(_double)(torch.ones(8, device=device))
    except Exception as error:  # what compilers raise has no common base
        raise UserError(
            f"training config: compile: PyTorch cannot compile on this machine ({_reason(error)}); it needs a C++ "
            "compiler (g++) and Python's headers, for a GPU also Triton; or leave compile out"
        ) from None


def compile_blocks(model: nn.Module) -> None:
    """Every entry of the model's lists of modules, in place: names and values of weights stay."""
    from torch._dynamo import config  # seconds of imports, which others do without

    config.recompile_limit = VARIANTS
    for child in model.children():
        if isinstance(model, nn.ModuleList):
            child.compile()
        else:
            compile_blocks(child)


def _double(x: Tensor) -> Tensor:
    return 2 * x


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("backend=")), type(error).__name__)
