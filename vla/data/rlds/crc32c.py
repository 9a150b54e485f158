"""CRC-32C (Castagnoli, RFC 3720 sec. 12.1), and the masked form in which TFRecord files keep it."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78
"""Castagnoli's, bits reversed."""
MASK = 0xA282EAD8

Words = NDArray[np.uint32]


def masked_crc32c(data: bytes | memoryview) -> int:
    """The checksum as TFRecord stores it: rotated by 15 bits and shifted, so that sums of sums stay good ones."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


def crc32c(data: bytes | memoryview) -> int:
    """The checksum, in numpy: a CRC is linear, so neighbouring words are joined pairwise, as in a tournament.

    Two stretches join by carrying the first one's CRC over as many zero bytes as the second is long, and adding
    the second's. The initial value of all ones is the same as inverting the first four bytes; zeros before them
    change nothing.
    """
    count = len(data)
    if count < 4:
        return _bytewise(data)
    words: Words = np.zeros(-(-count // 4), np.uint32)
    buffer = words.view(np.uint8)
    start = len(buffer) - count
    buffer[start:] = np.frombuffer(data, np.uint8)
    buffer[start : start + 4] ^= 0xFF
    level = 0
    while len(words) > 1:
        if len(words) % 2:
            words = np.concatenate([np.zeros(1, np.uint32), words])
        words = _carry(words[0::2], level) ^ words[1::2]
        level += 1
    return int(_carry(words, 0)[0]) ^ 0xFFFFFFFF


def _carry(crc: Words, level: int) -> Words:
    """Carry CRCs over 4 * 2**level zero bytes."""
    low, high = _tables(level)
    return low[crc & 0xFFFF] ^ high[crc >> 16]


@cache
def _tables(level: int) -> tuple[Words, Words]:
    """What becomes of the low and of the high 16 bits of a CRC over 4 * 2**level zero bytes: (65536,) each."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    if level == 0:
        for _ in range(32):
            bits = (bits >> 1) ^ np.where(bits & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    else:
        bits = _carry(_carry(bits, level - 1), level - 1)
    return _all_sums(bits[:16]), _all_sums(bits[16:])


def _all_sums(bits: Words) -> Words:
    sums = np.zeros(1, np.uint32)
    for bit in bits:
        sums = np.concatenate([sums, sums ^ bit])
    return sums


def _bytewise(data: bytes | memoryview) -> int:
    crc = 0xFFFFFFFF
    for byte in bytes(data):
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
