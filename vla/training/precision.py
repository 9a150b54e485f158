"""Which device is meant, and which arithmetic it is fast at."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from functools import cache

import torch

from vla.errors import UserError

_FAST_ON_CPU = ("avx512_bf16", "amx_bf16", "bf16")


def mixed_precision(device: str, wanted: bool = True) -> torch.autocast:
    """Autocast to bfloat16 where it is wanted and quick: a CPU without the instructions for it is ten times slower."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=wanted and is_quick(device))


def keeping_random_state(device: torch.device) -> AbstractContextManager[None]:
    """What is drawn within leaves torch's random state, that of this one GPU too, as it was."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def is_quick(device: str) -> bool:
    """Whether a device computes in bfloat16 at least as quickly as in float32."""
    return torch.device(device).type != "cpu" or _cpu_is_quick()


@cache
def _cpu_is_quick() -> bool:
    """Asked at every step, answered once. Older versions of torch cannot say what the CPU has."""
    has: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(has.get(name) for name in _FAST_ON_CPU)


def device_named(name: str) -> str:
    """What `auto`, `cpu`, `cuda` or `cuda:N` is on this machine; UserError for another name and for a GPU that PyTorch
    does not see.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UserError(f"unknown device {name!r}; there are: auto, cpu, cuda, cuda:N")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {name}: this machine's PyTorch sees no CUDA device; use --device cpu")
    if name.startswith("cuda:") and torch.device(name).index >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise UserError(f"device {name}: the last one this machine's PyTorch sees is cuda:{last}")
    return name
