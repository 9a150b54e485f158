"""A frozen embedding of an instruction, for policies that have no language."""

import re
import zlib

import numpy as np
from jaxtyping import Float

SIZE = 128
WORD = re.compile(r"[a-z0-9]+")


def embed_text(text: str, size: int = SIZE) -> Float[np.ndarray, " size"]:
    """A vector of norm sqrt(size) that tells sentences apart by their words and pairs of neighbouring words.

    Each of these has a Gaussian direction of its own, and the sentence is their sum (feature hashing, arXiv 0902.2206,
    with random directions for slots): nothing is learned or fetched, and the same text is the same vector everywhere.
    Sentences that share words are near each other; words that no sentence of the training data has mean nothing. A
    text without words is zero.
    """
    words = WORD.findall(text.lower())
    grams = [*words, *(f"{one} {two}" for one, two in zip(["", *words], [*words, ""], strict=True))] if words else []
    total = np.zeros(size)
    for gram in grams:
        total += np.random.default_rng(zlib.crc32(gram.encode())).standard_normal(size)
    norm = float(np.linalg.norm(total))
    return (total * np.sqrt(size) / norm if norm else total).astype(np.float32)
