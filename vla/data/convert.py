"""Episodes that others recorded, in whatever format, as a card describes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla.data.card import Card, CardField
from vla.data.episode import Frame
from vla.errors import UserError
from vla.spec import RobotSpec

Text = bytes | NDArray[Any]
"""UTF-8; an array holds the bytes of a text, zeros after it (as Language-Table's does)."""


class RawEpisode(Protocol):
    """An episode as stored. Every method raises UserError, saying where, for what is missing or damaged."""

    @property
    def instruction(self) -> str:
        """What is done in it, where no key of the card says it."""
        ...

    def truth(self, key: str) -> bool:
        """Whether a value of the episode, or all of its values, are true."""
        ...

    def values(self, key: str) -> NDArray[Any]:
        """(T, ...): numbers, a row per step."""
        ...

    def pictures(self, key: str) -> Pictures:
        """T of them."""
        ...

    def text(self, key: str) -> bytes | Sequence[Text]:
        """One for the whole episode, or T."""
        ...

    def error(self, what: str) -> UserError:
        """That says where the episode is stored."""
        ...


class Pictures(Protocol):
    """Pictures that are read, and decoded, one at a time: an episode of them may be larger than memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, step: int, /) -> NDArray[np.uint8]:
        """(H, W, 3). Raises ValueError if it cannot be decoded."""
        ...


@dataclass(frozen=True)
class EncodedPictures:
    """JPEG or PNG each."""

    encoded: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, step: int) -> NDArray[np.uint8]:
        return decode_image(self.encoded[step])


def decode_image(encoded: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a JPEG or PNG, as it is stored (not turned by EXIF). Raises ValueError if it is neither.

    A JPEG by the accurate DCT; TensorFlow takes the fast one unless told otherwise, and is a few levels off.
    """
    import cv2

    buffer = np.frombuffer(encoded, np.uint8)
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(buffer, flags) if len(buffer) else None
    if image is None:
        raise ValueError("a picture that cannot be decoded")
    return np.asarray(image, np.uint8)


@dataclass(frozen=True)
class Passage:
    """The steps under one instruction. state, action: of all of them; first: where they begin in the raw episode."""

    task: str
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    first: int
    card: Card
    spec: RobotSpec
    raw: RawEpisode
    pictures: Mapping[str, Pictures]

    def __len__(self) -> int:
        return len(self.state)

    def frames(self) -> Iterator[Frame]:
        """Raises UserError for a picture that cannot be decoded or has another size than the spec says."""
        for step in range(len(self)):
            yield Frame(self._images(self.first + step), self.state[step], self.action[step])

    def _images(self, step: int) -> dict[str, NDArray[np.uint8]]:
        images = {}
        for ours, camera in zip(self.spec.cameras, self.card.cameras, strict=True):
            try:
                image = camera.upright(self.pictures[camera.name][step])
            except ValueError as error:
                raise self.raw.error(f"step {step}, camera {camera.name}: {error}") from None
            if image.shape[:2] != (ours.height, ours.width):
                raise self.raw.error(
                    f"step {step}, camera {camera.name}: a picture of {image.shape[1]}x{image.shape[0]}, "
                    f"the dataset or the card says {ours.width}x{ours.height}"
                )
            images[camera.name] = image
        return images


@dataclass(frozen=True)
class Converted:
    """What became of one episode: several if its instruction changes, none if the card's filters leave it out.

    out_of_range: fields with values beyond the card's range.
    """

    passages: tuple[Passage, ...] = ()
    out_of_range: tuple[str, ...] = ()


def convert(card: Card, spec: RobotSpec, raw: RawEpisode) -> Converted:
    """One episode. Raises UserError, saying where it is stored, for values that make no sense."""
    if not all(raw.truth(key) for key in card.filters.only_where):
        return Converted()
    values = {key: raw.values(key) for field in card.fields for key in field.keys}
    pictures = {camera.name: raw.pictures(camera.key) for camera in card.cameras}
    texts = {key: raw.text(key) for key in card.instruction}
    counted: dict[str, Any] = {**values, **pictures, **texts}
    lengths = {key: len(value) for key, value in counted.items() if not isinstance(value, bytes)}
    if len(set(lengths.values())) > 1:
        raise raw.error("steps of differing number: " + ", ".join(f"{key} {n}" for key, n in lengths.items()))
    try:
        columns = [field.apply(values) for field in card.state]
        columns += [field.apply(values)[card.action.shift :] for field in card.action.fields]
    except ValueError as error:
        raise raw.error(f"card {card.name}: {error}") from None
    first, stop = card.filters.skip_first, min(map(len, columns))
    if stop <= first:
        return Converted()
    columns = [column[first:stop] for column in columns]
    names = [f"state {field.name}" for field in card.state] + [f"action {field.name}" for field in card.action.fields]
    for name, column in zip(names, columns, strict=True):
        if not np.isfinite(column).all():
            step = first + int(np.argmin(np.isfinite(column).all(axis=1)))
            raise raw.error(f"{name} is not a finite number at step {step}")
    checks = zip(names, card.fields, columns, strict=True)
    bad = tuple(name for name, field, column in checks if not field.in_range(column))
    state = np.concatenate(columns[: len(card.state)], axis=1)
    action = np.concatenate(columns[len(card.state) :], axis=1)
    try:
        words = [_instruction([_at(texts[key], step) for key in card.instruction]) for step in range(first, stop)]
    except UnicodeDecodeError as error:
        raise raw.error(f"the instruction is not UTF-8 ({error.reason})") from None
    words = [said or raw.instruction for said in words]
    if card.filters.with_instruction and not any(words):
        return Converted()
    passages = []
    for task, group in groupby(range(stop - first), key=words.__getitem__):
        steps = list(group)
        part = slice(steps[0], steps[-1] + 1)
        passages.append(Passage(task, state[part], action[part], first + steps[0], card, spec, raw, pictures))
    return Converted(tuple(passages), bad)


def check_field(card: Card, field: CardField, zeros: Mapping[str, NDArray[Any]]) -> None:
    """Run the field's operations once, so that a card that does not fit says so before any work."""
    try:
        field.apply(zeros)
    except ValueError as error:
        raise UserError(f"card {card.name}: {error}") from None


def _at(text: bytes | Sequence[Text], step: int) -> Text:
    return text if isinstance(text, bytes) else text[step]


def _instruction(texts: list[Text]) -> str:
    """The first that is not empty."""
    for text in texts:
        raw = text if isinstance(text, bytes) else np.asarray(text).astype(np.uint8).tobytes().split(b"\0")[0]
        if words := raw.decode("utf-8").strip():
            return words
    return ""
