"""Flow matching: noise becomes actions along a straight line (Lipman et al. 2023; Liu et al. 2023, rectified flow).

Time runs from 0 (noise) to 1 (actions) and is one number per action, so a committed prefix is simply at time 1
(training-time real-time chunking, arXiv 2512.05964).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla.s1.encoder import Sinusoids
from vla.s1.heads.base import ActionHead, Decode, masked_mean


class FlowHead(ActionHead):
    """Predicts the velocity from noise to actions at every time. steps: of Euler, that `act` takes.

    start: where `act` begins. It is fixed, not drawn: the same observation gives the same chunk.
    """

    start: Tensor

    def __init__(self, action_size: int, horizon: int, width: int, steps: int) -> None:
        super().__init__(action_size, horizon, width)
        self.steps = steps
        noise = torch.randn(horizon, action_size, generator=torch.Generator().manual_seed(0))
        self.register_buffer("start", noise, persistent=False)
        self.time = nn.Sequential(Sinusoids(32, 0.05, 4.0), nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))

    def loss(
        self,
        decode: Decode,
        actions: Float[Tensor, "B H A"],
        prefix: Bool[Tensor, "B H"],
        valid: Bool[Tensor, "B H"],
    ) -> Tensor:
        noise = torch.randn_like(actions)
        # Leaning to early times, where what to do is decided (pi0, arXiv 2410.24164): density 1.5 sqrt(1 - t).
        drawn = 1 - torch.rand(actions.shape[:1], device=actions.device, dtype=actions.dtype) ** (2 / 3)
        time = torch.where(prefix, 1.0, drawn.unsqueeze(-1))
        noisy = torch.lerp(noise, actions, time.unsqueeze(-1))
        error = self._velocity(decode, noisy, time, prefix) - (actions - noise)
        return masked_mean(error.square(), valid & ~prefix)

    def act(
        self, decode: Decode, actions: Float[Tensor, "B H A"], prefix: Bool[Tensor, "B H"]
    ) -> Float[Tensor, "B H A"]:
        given = prefix.unsqueeze(-1)
        chunk = torch.where(given, actions, self.start.to(actions.dtype))
        for step in range(self.steps):
            time = torch.where(prefix, 1.0, step / self.steps)
            velocity = self._velocity(decode, chunk, time, prefix)
            chunk = torch.where(given, actions, chunk + velocity / self.steps)
        return chunk

    def _velocity(self, decode: Decode, chunk: Tensor, time: Tensor, prefix: Tensor) -> Float[Tensor, "B H A"]:
        tokens = self.read(chunk) + self.time(time) + torch.where(prefix.unsqueeze(-1), self.given, 0.0)
        return self._read_out(decode(tokens))
