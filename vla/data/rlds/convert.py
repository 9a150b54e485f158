"""Episodes of a TFDS directory as a card describes them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from vla.data.card import Card, CardField
from vla.data.episode import Episode, Frame
from vla.data.rlds.directory import RawEpisode, TfdsDirectory
from vla.data.rlds.features import Leaf, decode_image
from vla.errors import UserError
from vla.spec import RobotSpec


@dataclass(frozen=True)
class Converted:
    """What became of one episode: several if its instruction changes, none if the card's filters leave it out.

    out_of_range: fields with values beyond the card's range.
    """

    episodes: tuple[Episode, ...] = ()
    out_of_range: tuple[str, ...] = ()


def robot_spec(card: Card, directory: TfdsDirectory) -> RobotSpec:
    """The spec of what `convert` makes. Raises UserError where card and features.json do not fit together."""
    for key in dict.fromkeys(key for field in card.fields for key in field.keys):
        _leaf(card, directory, f"steps/{key}", "tensor")
    for key in card.instruction:
        _leaf(card, directory, f"steps/{key}", "tensor")
    for key in card.filters.only_where:
        _leaf(card, directory, key, "tensor")
    sizes = {}
    for camera in card.cameras:
        shape = _leaf(card, directory, f"steps/{camera.key}", "image").shape[:2]
        height, width = shape if len(shape) == 2 and None not in shape else camera.size or (None, None)
        if height is None or width is None:
            raise UserError(
                f"card {card.name}: camera {camera.name}: features.json does not say how large its pictures are; "
                "give its size in the card"
            )
        sizes[camera.name] = (height, width)
    for field in card.fields:
        _check_sizes(card, field, directory)
    return card.spec(sizes)


def convert(card: Card, spec: RobotSpec, raw: RawEpisode) -> Converted:
    """One episode. Raises UserError, with shard and byte, for values that are not what features.json says."""
    if not all(np.all(raw.read(key)) for key in card.filters.only_where):
        return Converted()
    values = {key: raw.read(f"steps/{key}") for field in card.fields for key in field.keys}
    pictures = {camera.name: raw.read(f"steps/{camera.key}") for camera in card.cameras}
    texts = {key: raw.read(f"steps/{key}") for key in card.instruction}
    lengths = {key: len(value) for key, value in {**values, **pictures, **texts}.items()}
    if len(set(lengths.values())) > 1:
        raise raw.error("steps of differing number: " + ", ".join(f"{key} {n}" for key, n in lengths.items()))
    try:
        columns = [field.apply(values) for field in card.fields]
    except ValueError as error:
        raise raw.error(f"card {card.name}: {error}") from None
    first, stop = card.filters.skip_first, min(map(len, columns))
    if stop <= first:
        return Converted()
    columns = [column[first:stop] for column in columns]
    names = [f"state {field.name}" for field in card.state] + [f"action {field.name}" for field in card.action.fields]
    checks = zip(names, card.fields, columns, strict=True)
    bad = tuple(name for name, field, column in checks if not field.in_range(column))
    state = np.concatenate(columns[: len(card.state)], axis=1)
    action = np.concatenate(columns[len(card.state) :], axis=1)
    if not (np.isfinite(state).all() and np.isfinite(action).all()):
        raise raw.error("state or action is not a finite number")
    try:
        words = [_instruction([texts[key][step] for key in card.instruction]) for step in range(first, stop)]
    except UnicodeDecodeError as error:
        raise raw.error(f"the instruction is not UTF-8 ({error.reason})") from None
    if card.filters.with_instruction and not any(words):
        return Converted()
    steps = range(stop - first)
    episodes = []
    for task, group in groupby(steps, key=words.__getitem__):
        frames = [Frame(_images(spec, pictures, first + step, raw), state[step], action[step]) for step in group]
        episodes.append(Episode(task, frames))
    return Converted(tuple(episodes), bad)


def _images(spec: RobotSpec, pictures: dict[str, list[bytes]], step: int, raw: RawEpisode) -> dict[str, NDArray]:
    images = {}
    for camera in spec.cameras:
        try:
            image = decode_image(pictures[camera.name][step])
        except ValueError as error:
            raise raw.error(f"step {step}, camera {camera.name}: {error}") from None
        if image.shape[:2] != (camera.height, camera.width):
            raise raw.error(
                f"step {step}, camera {camera.name}: a picture of {image.shape[1]}x{image.shape[0]}, "
                f"features.json or the card says {camera.width}x{camera.height}"
            )
        images[camera.name] = image
    return images


def _instruction(texts: list[bytes | NDArray]) -> str:
    """The first that is not empty. An array holds the bytes of a text, zeros after it (as Language-Table's does)."""
    for text in texts:
        raw = text if isinstance(text, bytes) else np.asarray(text).astype(np.uint8).tobytes().split(b"\0")[0]
        if words := raw.decode("utf-8").strip():
            return words
    return ""


def _leaf(card: Card, directory: TfdsDirectory, path: str, kind: str) -> Leaf:
    leaf = directory.features.get(path)
    if leaf is None:
        top = path.split("/")[0]
        there = ", ".join(sorted(found for found in directory.features if found.split("/")[0] == top)) or "none such"
        raise UserError(f"card {card.name}: {directory.root} has no feature {path}; it has {there}")
    if leaf.kind != kind:
        raise UserError(f"card {card.name}: feature {path} of {directory.root} is no {kind}")
    return leaf


def _check_sizes(card: Card, field: CardField, directory: TfdsDirectory) -> None:
    """Run the field's operations once on zeros, so that a card that does not fit says so before any work."""
    zeros = {}
    for key in field.keys:
        leaf = directory.features[f"steps/{key}"]
        sizes = [size for size in leaf.shape if size is not None]
        if leaf.is_text or leaf.rank != 1 or len(sizes) < len(leaf.shape):
            raise UserError(f"card {card.name}: {field.name}: feature steps/{key} is not numbers of one size per step")
        zeros[key] = np.zeros((2, *sizes), leaf.dtype)
    try:
        field.apply(zeros)
    except ValueError as error:
        raise UserError(f"card {card.name}: {error}") from None
