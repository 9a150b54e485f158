"""tf.train.Example and tf.train.SequenceExample in protobuf's wire format.

    Example          features = 1: Features
    SequenceExample  context = 1: Features, feature_lists = 2: map of name to FeatureList (feature = 1: Feature)
    Features         feature = 1: map of name to Feature
    Feature          bytes_list = 1, float_list = 2, int64_list = 3: each value = 1, repeated

(tensorflow/core/example/{example,feature}.proto; protobuf.dev, "Encoding".) A map's entry is a message of key = 1 and
value = 2. Numbers may be packed or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32] | NDArray[np.int64] | list[bytes]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3


@dataclass(frozen=True)
class Feature:
    """The values of one feature, flat. counts: values per entry, if it is a FeatureList of a SequenceExample."""

    values: Values
    counts: NDArray[np.int64] | None = None


def parse_example(data: bytes) -> dict[str, Feature]:
    """The features of an Example or SequenceExample by name. Raises ValueError if it is not one."""
    found: dict[str, Feature] = {}
    for number, wire, part in _fields(memoryview(data)):
        if number not in (1, 2) or wire != LENGTH:
            continue
        for inner, inner_wire, entry in _fields(_view(part)):
            if inner == 1 and inner_wire == LENGTH:
                name, message = _entry(_view(entry))
                found[name] = _feature_list(message) if number == 2 else Feature(_values(message))
    return found


def _entry(view: memoryview) -> tuple[str, memoryview]:
    parts = {number: part for number, _, part in _fields(view)}
    return bytes(_view(parts.get(1, memoryview(b"")))).decode("utf-8"), _view(parts.get(2, memoryview(b"")))


def _feature_list(view: memoryview) -> Feature:
    entries = [_values(_view(part)) for number, _, part in _fields(view) if number == 1]
    counts = np.array([len(entry) for entry in entries], np.int64)
    filled = [entry for entry in entries if len(entry)]
    if not filled:
        return Feature([], counts)
    if isinstance(filled[0], list):
        return Feature([item for entry in filled for item in entry], counts)
    return Feature(np.concatenate(filled), counts)


def _values(view: memoryview) -> Values:
    """Of one Feature; one without any kind is empty."""
    for kind, wire, part in _fields(view):
        if wire != LENGTH or kind not in (BYTES_LIST, FLOAT_LIST, INT64_LIST):
            continue
        items = [(item_wire, item) for number, item_wire, item in _fields(_view(part)) if number == 1]
        if kind == BYTES_LIST:
            return [bytes(_view(item)) for _, item in items]
        if kind == FLOAT_LIST:
            packed = b"".join(bytes(_view(item)) for _, item in items)
            return np.frombuffer(packed, "<f4").astype(np.float32, copy=False)
        return _join_ints(items)
    return []


def _join_ints(items: list[tuple[int, int | memoryview]]) -> NDArray[np.int64]:
    runs = [_packed(item) if isinstance(item, memoryview) else _signed([item]) for _, item in items]
    return np.concatenate(runs) if runs else np.zeros(0, np.int64)


def _packed(view: memoryview) -> NDArray[np.int64]:
    """Varints, all at once: seven bits a byte, the lowest first; the last byte of each has its top bit clear."""
    raw = np.frombuffer(view, np.uint8)
    if not len(raw):
        return np.zeros(0, np.int64)
    ends = np.flatnonzero(raw < 0x80)
    if not len(ends) or ends[-1] != len(raw) - 1:
        raise ValueError("a number goes on beyond its list")
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(raw)) - np.repeat(starts, ends - starts + 1)
    if places.max() > 9:
        raise ValueError("a number has more than ten bytes")
    parts = (raw & 0x7F).astype(np.uint64) << (7 * places).astype(np.uint64)
    return np.bitwise_or.reduceat(parts, starts).view(np.int64)


def _signed(values: list[int]) -> NDArray[np.int64]:
    return np.array([value & 0xFFFFFFFFFFFFFFFF for value in values], np.uint64).view(np.int64)


def _fields(view: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """(number, wire type, value) of each field of a message: an int for varints, else its bytes."""
    at, size = 0, len(view)
    while at < size:
        tag, at = _varint(view, at)
        wire = tag & 7
        value: int | memoryview
        if wire == VARINT:
            value, at = _varint(view, at)
        else:
            length = {FIXED64: 8, FIXED32: 4}.get(wire)
            if wire == LENGTH:
                length, at = _varint(view, at)
            if length is None:
                raise ValueError(f"wire type {wire}")
            if at + length > size:
                raise ValueError("a field goes on beyond its message")
            value, at = view[at : at + length], at + length
        yield tag >> 3, wire, value


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise ValueError("a number is cut off")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _view(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value
