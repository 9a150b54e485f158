"""FAST action tokens (Pertsch et al. 2025, arXiv 2501.09747): a chunk's slow frequencies, compressed.

A chunk of normalised actions becomes, per dimension, the coefficients of its orthonormal DCT-II over time, times
`scale`, rounded; they are read low frequencies first across the dimensions and compressed by byte-pair encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from scipy.fft import dct, idct

from vla.actions.bpe import Bpe

VOCABULARY = 1024
SCALE = 10.0


@dataclass(frozen=True)
class FastTokens:
    """Fitted to chunks (horizon, action_size). low: the smallest coefficient, written as symbol 0.

    A plain dataclass of numbers: `vla.strict` writes it as JSON and reads it back. Raises ValueError if it is none.
    """

    horizon: int
    action_size: int
    low: int
    bpe: Bpe = field(repr=False)
    scale: float = SCALE

    def __post_init__(self) -> None:
        if min(self.horizon, self.action_size) < 1 or not self.scale > 0:
            raise ValueError(
                f"horizon {self.horizon}, action_size {self.action_size} and scale {self.scale} must be above 0"
            )

    @classmethod
    def fit(cls, chunks: Float[np.ndarray, "N H A"], vocabulary: int = VOCABULARY, scale: float = SCALE) -> FastTokens:
        """From chunks of training data. Raises ValueError if their coefficients alone would fill the vocabulary."""
        _, horizon, action_size = chunks.shape
        coefficients = _coefficients(chunks, scale)
        low, high = int(coefficients.min()), int(coefficients.max())
        return cls(horizon, action_size, low, Bpe.fit(coefficients - low, high - low + 1, vocabulary), scale)

    @property
    def symbols(self) -> int:
        """In every chunk: one per coefficient."""
        return self.horizon * self.action_size

    def encode(self, chunks: Float[np.ndarray, "N H A"]) -> list[list[int]]:
        """Tokens of each chunk. Coefficients beyond the fitted range are clipped to it: none may be lost."""
        if chunks.shape[1:] != (self.horizon, self.action_size):
            raise ValueError(f"chunks have shape {chunks.shape[1:]}, not {(self.horizon, self.action_size)}")
        return self.bpe.encode((_coefficients(chunks, self.scale) - self.low).clip(0, self.bpe.symbols - 1))

    def decode(self, sequences: Sequence[Sequence[int]]) -> Float[np.ndarray, "N H A"]:
        """The chunks of token sequences.

        Raises ValueError for one whose tokens do not stand for exactly `symbols` symbols; one drawn under
        `vla.actions.constrained` always does.
        """
        lengths = self.bpe.lengths
        for number, sequence in enumerate(sequences):
            if (said := int(lengths[list(sequence)].sum())) != self.symbols:
                raise ValueError(f"sequence {number} stands for {said} symbols, a chunk has {self.symbols}")
        tokens = np.fromiter((token for sequence in sequences for token in sequence), np.int64)
        values = (self.bpe.expand(tokens) + self.low) / self.scale
        chunks = values.reshape(len(sequences), self.horizon, self.action_size)
        return idct(chunks, axis=1, norm="ortho").astype(np.float32)


def _coefficients(chunks: Float[np.ndarray, "N H A"], scale: float) -> Int[np.ndarray, "N H*A"]:
    spectrum = dct(np.asarray(chunks, np.float64), axis=1, norm="ortho")
    # Axes (frequency, dimension), in memory order: low frequencies first, across the dimensions.
    return np.rint(scale * spectrum).astype(np.int64).reshape(len(chunks), -1)
