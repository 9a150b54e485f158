"""S1 in ONNX Runtime: on a CPU a chunk takes about half as long as in PyTorch."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vla.errors import UserError
from vla.s1.system import FastSystem

_OF = "vla.s1"
"""Metadata of the file: which weights it was made of."""


class Engine:
    """Acts as `FastSystem.act` does, for one observation at a time; the model itself is not needed."""

    def __init__(self, file: Path, of: str) -> None:
        """of: the weights the file must have been made of. Raises UserError if it was not, or cannot be used."""
        onnxruntime = _package("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base
            reason = str(error).splitlines()[0]
            raise UserError(f"{file} cannot be read ({reason}); make it anew with vla export") from None
        if self._session.get_modelmeta().custom_metadata_map.get(_OF) != of:
            raise UserError(f"{file} was made of other weights; make it anew with vla export")
        self._inputs = [one.name for one in self._session.get_inputs()]

    def act(
        self,
        pixels: Mapping[str, Float[Tensor, "1 H W 3"]],
        state: Float[Tensor, "1 S"],
        latents: Float[Tensor, "1 K D"],
        age: Float[Tensor, " 1"],
        prefix: Float[Tensor, "1 H A"],
        prefix_len: Int[Tensor, " 1"],
    ) -> Float[Tensor, "1 H A"]:
        """As `FastSystem.act`; pixels: images as `FastSystem.pixels` gives them."""
        given = (*pixels.values(), state, latents, age, prefix, prefix_len)
        arrays = {name: tensor.numpy() for name, tensor in zip(self._inputs, given, strict=True)}
        return torch.from_numpy(np.asarray(self._session.run(None, arrays)[0]))


class _Act(nn.Module):
    """`FastSystem.act` with a flat list of inputs."""

    def __init__(self, s1: FastSystem) -> None:
        super().__init__()
        self.s1 = s1

    def forward(self, *inputs: Tensor) -> Tensor:
        cameras = self.s1.config.cameras
        return self.s1.act(dict(zip(cameras, inputs, strict=False)), *inputs[len(cameras) :])


def export_engine(s1: FastSystem, file: Path, of: str) -> None:
    """Write S1, in float32 on the CPU, for `Engine`. of: which weights these are.

    Raises UserError for a head whose work depends on what it has said so far.
    """
    if s1.config.head == "fast":
        raise UserError("export: head fast decodes token by token, which a fixed graph cannot; l1, flow and bins can")
    onnx = _package("onnx")
    _package("onnxscript")
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(_Act(s1).eval(), example(s1), dynamo=True, verbose=False)
    assert program is not None
    model = program.model_proto
    model.metadata_props.add(key=_OF, value=of)
    onnx.save(model, str(file))


def example(s1: FastSystem, seed: int = 0) -> tuple[Tensor, ...]:
    """One observation of noise, in the order in which an engine takes its inputs."""
    random = torch.Generator().manual_seed(seed)
    shape = (1, s1.config.horizon, s1.action_size)
    images = [torch.rand(1, *s1.config.image_size, 3, generator=random) for _ in s1.config.cameras]
    state, latents = (torch.randn(1, *size, generator=random) for size in ((s1.state_size,), s1.latent_shape))
    age, prefix = torch.rand(1, generator=random), torch.randn(shape, generator=random)
    return (*images, state, latents, age, prefix, torch.tensor([seed % (s1.config.horizon // 2)]))


@contextlib.contextmanager
def _quiet() -> Any:
    """Converters tell what they do; what matters is checked afterwards."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise UserError(f"Python package {name} is missing: pip install 'vla[export]'") from None
