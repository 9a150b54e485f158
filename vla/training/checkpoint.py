"""Training state on disk: one safetensors file, replaced atomically, so a kill at any moment leaves a whole one.

Tensors (weights, EMA, optimiser moments, random state) are the file's tensors under flat names; the rest
(step, configuration) is JSON in its header. No pickle.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vla.errors import UserError
from vla.ranks import is_split, my_rank, split_as, whole

_HEADER = "state"


def write_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write to a neighbour, flush to the disk, rename over `path`.

    Of several processes the first writes; the others must call this too if tensors are split among them.
    """
    temporary = path.with_name(path.name + ".writing")
    flat = {}
    for name, tensor in tensors.items():
        gathered = whole(tensor.detach())
        if my_rank().leads:
            flat[name] = gathered.to("cpu").contiguous().clone()
    if not my_rank().leads:
        return
    save_file(flat, temporary, metadata={_HEADER: json.dumps(state)})
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, state); UserError when the file is damaged."""
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()[_HEADER])
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"checkpoint {path} is damaged ({error}); delete it to start this stage anew") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """Optimiser state as `optimizer/<parameter>/<key>`; `names` in the order of the optimiser's parameters."""
    flat = {}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            flat[f"optimizer/{names[index]}/{key}"] = torch.as_tensor(value)
    return flat


def load_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`; hyperparameters stay the optimiser's own."""
    state: dict[int, dict[str, Tensor]] = {}
    index = {name: i for i, name in enumerate(names)}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for flat, value in tensors.items():
        kind, _, rest = flat.partition("/")
        if kind == "optimizer":
            name, key = rest.rsplit("/", 1)
            if value.ndim > 0:  # not a count of steps
                value = _laid_out_as(parameters[index[name]], value)
            state.setdefault(index[name], {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """Split among the processes, or in memory, as the parameter is: fused AdamW walks through both in one order."""
    if is_split(parameter):
        return split_as(value, parameter)
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
