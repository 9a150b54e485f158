"""Byte-pair encoding of sequences of small whole numbers (Gage 1994; Sennrich et al. 2016, arXiv 1508.07909).

The numbers are written as characters of a contiguous range and handed to `tokenizers`, a sequence as one word: no
bytes, no splitting at what looks like a space or a digit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

_FIRST = 0x4E00
MOST_SYMBOLS = 0x5000
"""As many characters follow _FIRST without a gap (CJK ideographs); none has a form or case it could be folded into."""
LONGEST = 65_536
"""Symbols of a token: no chunk is longer, but a damaged file could ask for tokens that fill the memory."""


@dataclass(frozen=True)
class Bpe:
    """Symbols are 0 ... symbols - 1, and so are their tokens; every merge of two earlier tokens makes another.

    Two merges may make the same token: it is numbered once. Raises ValueError for merges of tokens not yet made.
    """

    symbols: int
    merges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.symbols <= MOST_SYMBOLS:
            raise ValueError(f"symbols is {self.symbols}, it must be 1 to {MOST_SYMBOLS}")
        _ = self.tokens

    @classmethod
    def fit(cls, sequences: Int[np.ndarray, "N S"], symbols: int, vocabulary: int) -> Bpe:
        """Merge the most frequent neighbours until there are `vocabulary` tokens or no two are seen twice.

        Raises ValueError if the symbols alone are more than that.
        """
        if symbols > vocabulary:
            raise ValueError(f"{symbols} symbols do not fit into a vocabulary of {vocabulary}")
        trainer = BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=[chr(_FIRST + symbol) for symbol in range(symbols)],
        )
        tokenizer = Tokenizer(BPE())
        tokenizer.train_from_iterator(_words(sequences), trainer)
        return cls._from_words(symbols, tokenizer)

    @classmethod
    def _from_words(cls, symbols: int, tokenizer: Tokenizer) -> Bpe:
        numbers = {chr(_FIRST + symbol): symbol for symbol in range(symbols)}
        merges = []
        for left, right in json.loads(tokenizer.to_str())["model"]["merges"]:
            merges.append((numbers[left], numbers[right]))
            numbers.setdefault(left + right, len(numbers))
        return cls(symbols, tuple(merges))

    @cached_property
    def tokens(self) -> tuple[tuple[int, ...], ...]:
        """The symbols of every token."""
        known: dict[tuple[int, ...], int] = {(symbol,): symbol for symbol in range(self.symbols)}
        tokens = list(known)
        for number, (left, right) in enumerate(self.merges):
            if not (0 <= left < len(tokens) and 0 <= right < len(tokens)):
                raise ValueError(f"merges[{number}] is of tokens {left} and {right}, there are {len(tokens)} by then")
            if len(tokens[left]) + len(tokens[right]) > LONGEST:
                raise ValueError(f"merges[{number}] makes a token of more than {LONGEST} symbols")
            made = tokens[left] + tokens[right]
            if made not in known:
                known[made] = len(tokens)
                tokens.append(made)
        return tuple(tokens)

    @cached_property
    def lengths(self) -> Int[np.ndarray, " V"]:
        """How many symbols each token stands for; at least one."""
        return np.array([len(token) for token in self.tokens])

    def encode(self, sequences: Int[np.ndarray, "N S"]) -> list[list[int]]:
        """Tokens of each sequence; symbols must be 0 ... symbols - 1, others would be lost without a word."""
        return [[token.id for token in self._model.tokenize(word)] for word in _words(sequences)]

    def expand(self, tokens: Int[np.ndarray, " T"]) -> Int[np.ndarray, " S"]:
        """All their symbols, one after the other."""
        lengths = self.lengths[tokens]
        before = lengths.cumsum() - lengths
        return self._flat[np.repeat(self._begin[tokens] - before, lengths) + np.arange(lengths.sum())]

    @cached_property
    def _flat(self) -> Int[np.ndarray, " F"]:
        return np.concatenate([np.array(token) for token in self.tokens])

    @cached_property
    def _begin(self) -> Int[np.ndarray, " V"]:
        return self.lengths.cumsum() - self.lengths

    @cached_property
    def _model(self) -> BPE:
        # Without the tokenizer around it: there is no text to split, and no threads are wanted beside those of torch.
        words = ["".join(chr(_FIRST + symbol) for symbol in token) for token in self.tokens]
        merges = [(words[left], words[right]) for left, right in self.merges]
        return BPE(vocab={word: number for number, word in enumerate(words)}, merges=merges)


def _words(sequences: Int[np.ndarray, "N S"]) -> Sequence[str]:
    characters = np.ascontiguousarray(sequences + _FIRST, dtype=np.uint32)
    return characters.view(f"U{characters.shape[1]}").ravel().tolist()
