"""What training a VLM will take, said before it starts.

Nothing is looked up in a table: weights, gradients and optimiser are counted, activations and time are measured on
one and on two observations and carried forward to the batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from vla.ranks import is_split, own_part
from vla.s2.system import SlowSystem
from vla.training.loop import LoopConfig
from vla.training.precision import keeping_random_state, mixed_precision

GB = 1e9


@dataclass(frozen=True)
class Estimate:
    """parameters, trained: numbers. weights, training, activations, device: bytes. seconds: of a step.

    training: of gradients, AdamW's two moments, the average and its copy at evaluations, all float32. Of what is split
    among processes, training is this one's part, and weights that and all of them, gathered.
    """

    parameters: int
    trained: int
    weights: int
    training: int
    activations: int
    seconds: float
    device: int

    @property
    def total(self) -> int:
        return self.weights + self.training + self.activations

    def lines(self, batch: int, steps: int) -> list[str]:
        said = [
            f"memory: weights {self.weights / GB:.2f} GB ({_count(self.parameters)} parameters, "
            f"{_count(self.trained)} trained), gradients, optimizer and average {self.training / GB:.2f} GB, "
            f"activations of S2 {self.activations / GB:.2f} GB at batch {batch}: "
            f"about {self.total / GB:.2f} of {self.device / GB:.1f} GB",
            f"time: at most {self.seconds:.2g} s a step, {self.seconds * steps / 3600:.2g} h for {steps} steps "
            "(from one and two observations; a batch is often quicker on a GPU)",
        ]
        if self.total > self.device:
            said.append(
                "this is more than there is: lower the batch, slow.layer, lora.rank or joint.recompute, or freeze more "
                "(slow.train)"
            )
        return said


def estimate(
    model: nn.Module,
    slow: SlowSystem,
    images: UInt8[Tensor, "2 V H W 3"],
    prompts: list[str],
    batch: int,
    config: LoopConfig,
    recompute: int = 0,
) -> Estimate:
    """model: all that is trained, S2 among it, on its device. images, prompts: two observations of the data.

    recompute: as in `JointConfig`. Training is left as it was: no weight changes, nor the random state.
    """
    slow.train()
    with keeping_random_state(slow.device), mixed_precision(config.device, config.bf16):
        # The first pass warms up: kernels are chosen, caches filled.
        measured = [_measure(slow, images[:n], prompts[:n]) for n in (1, 1, 2)]
    model.zero_grad(set_to_none=True)
    (one, first), (two, both) = measured[1:]
    each, every = max(0, two - one), max(0.0, both - first)
    parameters = list(model.parameters())
    trained = [p for p in parameters if p.requires_grad]
    return Estimate(
        parameters=sum(p.numel() for p in parameters),
        trained=sum(p.numel() for p in trained),
        weights=sum((own_part(p).numel() + is_split(p) * p.numel()) * p.element_size() for p in parameters),
        training=sum(own_part(p).numel() for p in trained) * 4 * (1 + 2 + 1 + 1),
        activations=one + each * (min(batch, recompute or batch) - 1),
        seconds=(first + every * (batch - 1)) * (4 / 3 if recompute else 1),
        device=_memory(slow.device),
    )


def _measure(slow: SlowSystem, images: Tensor, prompts: list[str]) -> tuple[int, float]:
    """Bytes kept for the backward pass, weights not counted, and seconds of both passes."""
    own = _places(own_part(tensor) for tensor in (*slow.parameters(), *slow.buffers()))
    # Weights that are split among processes are whole, and somewhere else, while S2 is called.
    hook = slow.register_forward_pre_hook(lambda *_: own.update(_places(map(own_part, slow.parameters()))))
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    _wait(slow.device)
    start = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        latents = slow(images, prompts).latents
    latents.square().mean().backward()
    _wait(slow.device)
    hook.remove()
    return sum(kept.values()), time.perf_counter() - start


def _places(tensors: Iterable[Tensor]) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _count(number: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
