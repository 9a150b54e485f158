"""What S2 hands to S1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Thought:
    """What S2 leaves behind for S1.

    latents: (K, D) float32 hidden states of the K query tokens; a numpy array if they came from another process.
    stamp: capture time, in seconds on the runtime clock, of the newest image S2 looked at.
    instruction_id: which instruction it answers.
    text: S2's words, if it was asked for any.
    """

    latents: Tensor
    stamp: float
    instruction_id: int = 0
    text: str | None = None

    def age(self, now: float) -> float:
        """Seconds since the image behind this thought was taken."""
        return now - self.stamp
