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

    Raises UserError if they do not all come, or there are too few GPUs for them.
    """
    if {"ACCELERATE_USE_CPU", "MASTER_PORT"} <= os.environ.keys() and "WORLD_SIZE" not in os.environ:
        raise UserError(
            "train: accelerate launch was to start several processes and starts one unless told --multi_gpu; "
            "on CPUs too: accelerate launch --multi_gpu --num_processes 2 -m vla.cli train --device cpu ..."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    gpu = torch.device(device).type == "cuda"
    if device == "cuda":
        number, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if number >= gpus:
            raise UserError(f"train: one process for each GPU: this machine has {gpus}, this is number {number + 1}")
        device = f"cuda:{number}"
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
    """Give every process the mean of all gradients; a parameter that none has used keeps none.

    Those of a split parameter are the mean already.
    """
    if not _several():
        return
    parameters = [p for p in parameters if not is_split(p)]
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
    """All processes begin with the first one's values; what is split was the same before."""
    if _several():
        for tensor in tensors:
            if not is_split(tensor):
                dist.broadcast(tensor.data, 0)


# --- tensors split among the processes ---------------------------------------------------------------------------


def split(model: nn.Module, device: str, dtype: torch.dtype | None = None) -> None:
    """Split the weights of `model` among the processes (FSDP2), and so their gradients, moments and average.

    They are gathered, as `dtype` if given, while `model` is called and while its gradients are computed. All processes
    must begin with the same weights and call it equally often. In a single process nothing happens.
    """
    if not _several():
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(torch.device(device).type, (dist.get_world_size(),))
    precision = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    # Nor is the outermost module kept whole after a call: an average put in its place for an evaluation would stay.
    fully_shard(model, mesh=mesh, mp_policy=precision, reshard_after_forward=True)


def is_split(tensor: Tensor) -> bool:
    if not _several():
        return False
    from torch.distributed.tensor import DTensor  # a second of imports, which robots do without

    return isinstance(tensor, DTensor)


def takes_part(model: nn.Module) -> bool:
    """In evaluating and saving `model`: the first process does, and the others if each has a part of it only."""
    return my_rank().leads or any(map(is_split, model.parameters()))


def own_part(tensor: Any) -> Tensor:
    """What this process holds of it, sharing its memory; all of it if it is not split."""
    return tensor.to_local() if is_split(tensor) else tensor


def whole(tensor: Any) -> Tensor:
    """Gathered from all processes, which must all call this; itself if it is not split."""
    return tensor.full_tensor() if is_split(tensor) else tensor


def split_as(tensor: Tensor, like: Any) -> Tensor:
    """This process's part of a tensor that every process has whole, split as `like` is."""
    if not is_split(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    value = tensor.to(like.device_mesh.device_type, like.dtype)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients down to a norm of `limit` over all of them, split ones too; returns the norm they had."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm([g for g in gradients if not is_split(g)])
    parts = [own_part(g) for g in gradients if is_split(g)]
    if parts:
        squares = nn.utils.get_total_norm(parts).double() ** 2
        dist.all_reduce(squares)
        norm = (norm**2 + squares).sqrt().to(norm.dtype)
    torch._foreach_mul_([own_part(g) for g in gradients], (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
