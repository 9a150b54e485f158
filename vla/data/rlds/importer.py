"""`vla data import rlds`: a TFDS directory as a source of episodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.data.card import Card, CardField
from vla.data.convert import EncodedPictures, RawEpisode, Text, check_field
from vla.data.importing import import_source
from vla.data.rlds.directory import RawEpisode as Record
from vla.data.rlds.directory import TfdsDirectory
from vla.data.rlds.features import Leaf
from vla.errors import UserError
from vla.spec import RobotSpec


def import_rlds(root: Path, card_name: str, out: Path, split: str | None = None, workers: int = 1) -> None:
    """Import one split, or all; see `import_source`. Raises UserError for a directory that is not as it should be."""
    import_source(RldsSource(TfdsDirectory.open(root.resolve(), split)), card_name, out, workers)


@dataclass(frozen=True)
class RldsSource:
    """The episodes of a TFDS directory; keys of a card are features of `steps`, those of its filters of the episode."""

    directory: TfdsDirectory

    @property
    def place(self) -> Path:
        return self.directory.root

    @property
    def episodes(self) -> int:
        return self.directory.episodes

    def settings(self) -> dict[str, Any]:
        return {
            "source": str(self.directory.root),
            "dataset": f"{self.directory.name}/{self.directory.version}",
            "splits": list(self.directory.splits),
            "episodes": self.directory.episodes,
        }

    def read(self, start: int, stop: int) -> Iterator[RawEpisode]:
        return map(RldsEpisode, self.directory.read(start, stop))

    def robot_spec(self, card: Card) -> RobotSpec:
        """Raises UserError where card and features.json do not fit together."""
        for key in dict.fromkeys(key for field in card.fields for key in field.keys):
            self._leaf(card, f"steps/{key}", "tensor")
        for key in card.instruction:
            self._leaf(card, f"steps/{key}", "tensor")
        for key in card.filters.only_where:
            self._leaf(card, key, "tensor")
        sizes = {}
        for camera in card.cameras:
            shape = self._leaf(card, f"steps/{camera.key}", "image").shape[:2]
            height, width = shape if len(shape) == 2 and None not in shape else camera.size or (None, None)
            if height is None or width is None:
                raise UserError(
                    f"card {card.name}: camera {camera.name}: features.json does not say how large its pictures are; "
                    "give its size in the card"
                )
            sizes[camera.name] = (height, width)
        for field in card.fields:
            check_field(card, field, self._zeros(card, field))
        return card.spec(sizes)

    def _leaf(self, card: Card, path: str, kind: str) -> Leaf:
        features, root = self.directory.features, self.directory.root
        leaf = features.get(path)
        if leaf is None:
            top = path.split("/")[0]
            there = ", ".join(sorted(found for found in features if found.split("/")[0] == top)) or "none such"
            raise UserError(f"card {card.name}: {root} has no feature {path}; it has {there}")
        if leaf.kind != kind:
            raise UserError(f"card {card.name}: feature {path} of {root} is no {kind}")
        return leaf

    def _zeros(self, card: Card, field: CardField) -> dict[str, NDArray[Any]]:
        """Two steps of each of its keys."""
        zeros = {}
        for key in field.keys:
            leaf = self.directory.features[f"steps/{key}"]
            sizes = [size for size in leaf.shape if size is not None]
            if leaf.is_text or leaf.rank != 1 or len(sizes) < len(leaf.shape):
                raise UserError(
                    f"card {card.name}: {field.name}: feature steps/{key} is not numbers of one size per step"
                )
            zeros[key] = np.zeros((2, *sizes), leaf.dtype)
        return zeros


@dataclass(frozen=True)
class RldsEpisode:
    """One record, read by the keys of a card."""

    record: Record
    instruction: str = ""

    def truth(self, key: str) -> bool:
        return bool(np.all(self.record.read(key)))

    def values(self, key: str) -> NDArray[Any]:
        return self.record.read(f"steps/{key}")

    def pictures(self, key: str) -> EncodedPictures:
        return EncodedPictures(self.record.read(f"steps/{key}"))

    def text(self, key: str) -> Sequence[Text]:
        return self.record.read(f"steps/{key}")

    def error(self, what: str) -> UserError:
        return self.record.error(what)
