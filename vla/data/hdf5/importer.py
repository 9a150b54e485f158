"""`vla data import hdf5`: HDF5 files as a source of episodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from vla.data.card import Card
from vla.data.convert import check_field
from vla.data.hdf5.episode import Hdf5Episode
from vla.data.hdf5.layout import EpisodePlace, find_episodes, opened
from vla.data.importing import import_source
from vla.errors import UserError
from vla.spec import RobotSpec

CONVENTION = "macros_image_convention"
"""robosuite's attribute: `opengl` pictures begin with their bottom row, `opencv` ones are upright."""


def import_hdf5(
    path: Path, card_name: str, out: Path, split: str | None = None, instruction: str = "", workers: int = 1
) -> None:
    """Import a file or a folder of files; see `import_source`.

    split: only the episodes that this mask of a robomimic file lists. instruction: what is done, where the files do
    not say it.
    """
    path = path.resolve()
    import_source(Hdf5Source(path, find_episodes(path, split), split, instruction), card_name, out, workers)


@dataclass(frozen=True)
class Hdf5Source:
    """The episodes of a file, or of the files of a folder."""

    place: Path
    found: tuple[EpisodePlace, ...]
    split: str | None = None
    instruction: str = ""

    @property
    def episodes(self) -> int:
        return len(self.found)

    def settings(self) -> dict[str, Any]:
        files = {place.file for place in self.found}
        return {
            "source": str(self.place),
            "bytes": sum(file.stat().st_size for file in files),
            "split": self.split,
            "episodes": self.episodes,
            "instruction": self.instruction,
        }

    def read(self, start: int, stop: int) -> Iterator[Hdf5Episode]:
        for file, places in groupby(self.found[start:stop], key=lambda place: place.file):
            with opened(file) as handle:
                for place in places:
                    yield Hdf5Episode(handle, place, self.instruction)

    def robot_spec(self, card: Card) -> RobotSpec:
        """Raises UserError if the first episode of any file lacks what the card names."""
        if not card.instruction and not self.instruction:
            raise UserError(
                f"import: card {card.name} does not say where the instruction is; "
                "say what is done with --instruction TEXT"
            )
        spec: RobotSpec | None = None
        for _, places in groupby(enumerate(self.found), key=lambda item: item[1].file):
            number = next(places)[0]
            for episode in self.read(number, number + 1):
                sizes = _check(card, episode)
                spec = spec or card.spec(sizes)
        assert spec is not None
        return spec


def _check(card: Card, episode: Hdf5Episode) -> dict[str, tuple[int, int]]:
    """Whether the card fits; the size of each camera's pictures."""
    for field in card.fields:
        stored = {key: episode.numbers(key) for key in field.keys}
        check_field(card, field, {key: np.zeros((2, *one.shape[1:]), one.dtype) for key, one in stored.items()})
    for key in card.instruction:
        episode.text(key)
    for key in card.filters.only_where:
        episode.truth(key)
    sizes: dict[str, tuple[int, int]] = {}
    convention = episode.attribute(CONVENTION)
    for camera in card.cameras:
        pictures = episode.pictures(camera.key)
        if not len(pictures):
            raise episode.error(f"{camera.key} is empty")
        try:
            height, width = pictures[0].shape[:2]
        except ValueError as error:
            raise episode.error(f"{camera.key}, step 0: {error}") from None
        sizes[camera.name] = (height, width)
        if convention == ("opencv" if camera.flip else "opengl"):
            raise episode.error(
                f"{CONVENTION} is {convention}, so pictures are stored {'upright' if camera.flip else 'upside down'}; "
                f"camera {camera.name} of card {card.name} has {f'flip: {camera.flip}' if camera.flip else 'no flip'}"
            )
    return sizes
