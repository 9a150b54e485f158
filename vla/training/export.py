"""`vla export`: the same policy with an S1 made for CPUs, checked and timed against the one it was made of."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla.s1.engine import Engine, example, export_engine
from vla.s1.system import FastSystem
from vla.tandem import ENGINE_FILE, TandemPolicy, weights_digest

COMPARED = 100
"""Observations of noise, whose chunks are compared and timed."""


@dataclass(frozen=True)
class Exported:
    """difference: largest, of normalised actions. milliseconds: the median chunk of each, in turns on this machine."""

    file: Path
    difference: float
    pytorch_ms: float
    engine_ms: float

    def __str__(self) -> str:
        return (
            f"{self.file}: a chunk in {self.engine_ms:.2f} ms, PyTorch {self.pytorch_ms:.2f} ms, threads "
            f"{torch.get_num_threads()}; largest difference {self.difference:.1g} of normalised actions"
        )


def export(policy: Path, out: Path, robot: str | None = None) -> Exported:
    """Write the policy to `out`, with the engine beside its weights; of one of several robots, that robot's alone.

    Raises UserError as `export_engine` does, and for a `robot` that the policy does not know.
    """
    TandemPolicy.from_pretrained(policy, robot=robot, engine=False).save_pretrained(out)
    s1 = TandemPolicy.from_pretrained(out).s1  # as it was saved
    file, digest = out / ENGINE_FILE, weights_digest(out)
    partial = file.with_name(f".{file.name}.partial")
    try:
        export_engine(s1, partial, digest)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return _compare(s1, Engine(file, digest), file)


@torch.inference_mode()
def _compare(s1: FastSystem, engine: Engine, file: Path) -> Exported:
    cameras = s1.config.cameras
    differences, times = [], []
    for seed in range(COMPARED):
        inputs = example(s1, seed)
        images, rest = dict(zip(cameras, inputs, strict=False)), inputs[len(cameras) :]
        (theirs, before), (ours, after) = (_timed(act, images, *rest) for act in (s1.act, engine.act))
        differences.append(float((ours - theirs).abs().max()))
        times.append((before, after))
    return Exported(file, max(differences), *(1e3 * float(x) for x in np.median(times, axis=0)))


def _timed(act: Callable[..., torch.Tensor], *inputs: Any) -> tuple[torch.Tensor, float]:
    begin = time.perf_counter()
    return act(*inputs), time.perf_counter() - begin
