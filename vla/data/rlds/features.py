"""What a TFDS directory says its examples hold (`features.json`), and values out of an Example by it.

TFDS stores one Example per episode. A feature inside the `steps` Dataset is one flat list over all steps, named by its
path (`steps/observation/state`); a sequence inside a step is ragged, as `<path>/ragged_flat_values` and
`<path>/ragged_row_lengths_0`. Bools are int64, all floats float32 (tensorflow_datasets/core/example_serializer.py).
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vla.data.rlds.example import Feature, Values
from vla.errors import UserError


@dataclass(frozen=True)
class Leaf:
    """One feature: `shape` and `dtype` of an item, None where the size is open; `rank` sequences deep (steps are one).

    image: an encoded picture, (H, W, C) once decoded. encoding: how a tensor's bytes are stored, if not as numbers.
    """

    path: str
    kind: Literal["tensor", "image", "other"]
    dtype: str = "object"
    shape: tuple[int | None, ...] = ()
    rank: int = 0
    encoding: Literal["none", "bytes", "zlib"] = "none"

    @property
    def is_text(self) -> bool:
        return self.kind == "tensor" and self.dtype == "string"

    def read(self, example: Mapping[str, Feature]) -> Any:
        """The value: an array (*shape), or with rank 1 (T, *shape); for text and images a list of T bytes.

        Ragged ones (rank 2 and more) are lists of such per step. Raises ValueError if it is missing or misshapen.
        """
        if self.kind == "other":
            raise ValueError(f"{self.path} is of a kind of feature this reader does not know")
        if self.rank < 2:
            stored = self._stored(example, self.path)
            items = self._items(stored.values)
            if self.rank == 1:
                return items
            if len(items) != 1:
                raise ValueError(f"{self.path} has {len(items)} values instead of one")
            return items[0]
        if self.path in example:  # a FeatureList of a SequenceExample counts its own values
            listed = example[self.path]
            if listed.counts is None:
                raise ValueError(f"{self.path} does not say where its rows end")
            per_item = math.prod(size or 1 for size in self.shape) if self.encoding == "none" else 1
            return _split(self._items(listed.values), listed.counts // max(per_item, 1))
        value = self._items(self._stored(example, f"{self.path}/ragged_flat_values").values)
        for level in reversed(range(self.rank - 1)):
            value = _split(value, np.asarray(self._stored(example, f"{self.path}/ragged_row_lengths_{level}").values))
        return value

    def _stored(self, example: Mapping[str, Feature], name: str) -> Feature:
        """What is stored under that name; an empty sequence need not be."""
        if name not in example and self.rank == 0:
            raise ValueError(f"{name} is missing")
        return example.get(name, Feature([]))

    def _items(self, values: Values) -> Any:
        if self.kind == "image" or self.is_text:
            if not isinstance(values, list):
                raise ValueError(f"{self.path} holds numbers, not {'pictures' if self.kind == 'image' else 'text'}")
            return values
        dtype = np.dtype(self.dtype)
        if self.encoding != "none" and isinstance(values, list):
            unpack = zlib.decompress if self.encoding == "zlib" else bytes
            values = np.frombuffer(b"".join(unpack(item) for item in values), dtype.newbyteorder("<"))
        if isinstance(values, list) and values:
            raise ValueError(f"{self.path} holds bytes, not {self.dtype}")
        if None in self.shape[1:] or (None in self.shape and self.rank):
            raise ValueError(f"{self.path} has steps of differing sizes, {self.shape}")
        shape = [-1 if size is None else size for size in self.shape]
        try:
            return np.asarray(values).astype(dtype, copy=False).reshape([1 if -1 in shape else -1, *shape])
        except ValueError:
            raise ValueError(f"{self.path} has {len(values)} values, which is no multiple of {self.shape}") from None


def read_features(file: Path) -> dict[str, Leaf]:
    """Every feature by its path. Raises UserError if the file is missing or not what TFDS writes."""
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        return {leaf.path: leaf for leaf in _leaves(tree, "", 0)}
    except FileNotFoundError:
        raise UserError(f"rlds: {file} does not exist, so {file.parent} is no TFDS directory") from None
    except OSError as error:
        raise UserError(f"rlds: cannot read {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"rlds: {file} is not what TFDS writes ({error!r})") from None


def _leaves(node: Mapping[str, Any], path: str, rank: int) -> Iterator[Leaf]:
    if "featuresDict" in node:
        for name, inner in node["featuresDict"].get("features", {}).items():
            yield from _leaves(inner, f"{path}/{name}" if path else name, rank)
    elif "sequence" in node or "dataset" in node:
        yield from _leaves((node.get("sequence") or node["dataset"])["feature"], path, rank + 1)
    elif "image" in node:
        yield Leaf(path, "image", node["image"].get("dtype", "uint8"), _shape(node["image"]), rank)
    elif "text" in node:
        yield Leaf(path, "tensor", "string", (), rank)
    elif "tensor" in node:
        tensor = node["tensor"]
        dtype, encoding = tensor["dtype"], tensor.get("encoding", "none").lower()
        known = encoding in ("none", "bytes", "zlib") and (dtype == "string" or _is_numpy(dtype))
        yield Leaf(path, "tensor", dtype, _shape(tensor), rank, encoding) if known else Leaf(path, "other")
    elif "classLabel" in node:
        yield Leaf(path, "tensor", "int64", (), rank)
    else:
        yield Leaf(path, "other", rank=rank)


def _shape(node: Mapping[str, Any]) -> tuple[int | None, ...]:
    """Of a message {"shape": {"dimensions": ["7"]}}; -1 is open."""
    sizes = (int(size) for size in node.get("shape", {}).get("dimensions", ()))
    return tuple(None if size < 0 else size for size in sizes)


def _is_numpy(dtype: str) -> bool:
    try:
        return np.dtype(dtype).kind in "biuf"
    except TypeError:
        return False


def _split(items: Any, lengths: NDArray[np.int64]) -> list[Any]:
    ends = np.cumsum(lengths)
    if (ends[-1] if len(ends) else 0) != len(items):
        raise ValueError(f"rows of {ends[-1] if len(ends) else 0} values in all, but there are {len(items)}")
    return [items[end - length : end] for end, length in zip(ends, lengths, strict=True)]
