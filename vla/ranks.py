"""Training in several processes: each takes its rows of every batch, and all take the same step.

Whoever starts them (`torchrun`, `accelerate launch --multi_gpu`) tells each in its environment who it is; in a single
process nothing here does anything. Losses are means over what is counted in the whole batch, so that the steps are
those that one process would take.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vla.errors import UserError

PATIENCE = timedelta(hours=6)
"""How long others wait while the first evaluates, decodes a dataset or reads it with S2."""


@dataclass(frozen=True)
class Rank:
    """number: of this process among `size`."""

    number: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes, evaluates and talks."""
        return self.number == 0


def my_rank() -> Rank:
    return Rank(dist.get_rank(), dist.get_world_size()) if _several() else Rank()


def join(device: str) -> str:
    """Meet the other processes, if there are any; returns the device of this one.

    Raises UserError if they do not all come.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    gpu = torch.device(device).type == "cuda"
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        try:
            dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"train: the processes do not find each other: {str(error).splitlines()[0]}") from None
    return device


def leave() -> None:
    if _several():
        dist.destroy_process_group()


@contextmanager
def leader_first() -> Iterator[None]:
    """The first process does it before the others, which then find it done."""
    if not my_rank().leads:
        dist.barrier()
    yield
    if _several() and my_rank().leads:
        dist.barrier()


def share_of(batch: Any, rank: Rank) -> Any:
    """This process's rows of the tensors and lists in (nested) dicts; UserError if it would have none."""
    if rank.size == 1:
        return batch
    if isinstance(batch, Mapping):
        return {key: share_of(value, rank) for key, value in batch.items()}
    if len(batch) < rank.size:
        raise UserError(f"train: {len(batch)} frames of a batch cannot be shared among {rank.size} processes")
    return batch[rank.number :: rank.size]


def across(count: Tensor) -> Tensor:
    """What a sum over this process's rows is to be divided by, so that the mean over processes is that of all rows.

    Evaluations, which one process does alone, count for themselves.
    """
    return mean_of(count) if torch.is_grad_enabled() else count


def mean_of(value: Tensor) -> Tensor:
    """Over all processes; without gradient."""
    if not _several():
        return value
    total = value.detach().double()
    dist.all_reduce(total)
    return (total / dist.get_world_size()).to(value.dtype if value.is_floating_point() else torch.float32)


def share_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the mean of all gradients; a parameter that none has used keeps none."""
    if not _several():
        return
    parameters = list(parameters)
    device = parameters[0].device
    used = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
    dist.all_reduce(used)
    shared = [p for p, count in zip(parameters, used.tolist(), strict=True) if count]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten().float() for p in shared])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for p, part in zip(shared, flat.split([p.numel() for p in shared]), strict=True):
        if p.grad is None:
            p.grad = torch.empty_like(p)
        # Into the gradient that is there: fused AdamW takes it to be laid out in memory as its parameter is.
        p.grad.copy_(part.view_as(p))


def agree(tensors: Iterable[Tensor]) -> None:
    """All processes begin with the first one's values."""
    if _several():
        for tensor in tensors:
            dist.broadcast(tensor.data, 0)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
