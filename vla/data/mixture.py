"""Mixtures: which datasets are trained on together, and in which proportions.

A file of `datasets/mixtures/` names datasets as their cards do; on disk they are folders of that name. Published
weights multiply a dataset's number of frames (`per: frames`, as in Octo and OpenVLA); with `per: draws` they are the
proportions of the draws themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vla import assets
from vla.errors import UserError
from vla.strict import parse, read_yaml


@dataclass(frozen=True)
class MixturePart:
    """dataset: a name, the folder under the mixture's root."""

    dataset: str
    weight: float

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise ValueError(f"weight of {self.dataset} is {self.weight}, it must be above 0")


@dataclass(frozen=True)
class Mixture:
    """source: where the weights were published."""

    name: str
    source: str
    per: Literal["frames", "draws"]
    datasets: tuple[MixturePart, ...]

    def __post_init__(self) -> None:
        names = [part.dataset for part in self.datasets]
        if not names:
            raise ValueError("datasets is empty")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"datasets has {', '.join(twice)} more than once")

    @classmethod
    def load(cls, name: str | Path) -> Mixture:
        """A shipped mixture by its name, or the file at a path. Raises UserError for what is not as it should be."""
        path = assets.find("mixture", name)
        return parse(cls, read_yaml(path, "mixture"), f"mixture {path.stem}")

    def weights(self, frames: Mapping[str, int]) -> list[float]:
        """What the draws of each dataset are proportional to; frames: dataset -> how many it has."""
        return [part.weight * (frames[part.dataset] if self.per == "frames" else 1) for part in self.datasets]

    def folders(self, root: Path) -> list[Path]:
        """Where the datasets are. Raises UserError naming those that are not there."""
        missing = [part.dataset for part in self.datasets if not (root / part.dataset).is_dir()]
        if missing:
            raise UserError(f"mixture {self.name}: {root} lacks {', '.join(missing)}; import them or leave them out")
        return [root / part.dataset for part in self.datasets]

    def only(self, names: Sequence[str]) -> Mixture:
        """The part of it that is of these datasets, with their weights as they are. Raises UserError for strangers."""
        known = {part.dataset: part for part in self.datasets}
        for name in names:
            if name not in known:
                raise UserError(f"mixture {self.name} has no dataset {name!r}; it has {', '.join(known)}")
        return Mixture(self.name, self.source, self.per, tuple(known[name] for name in dict.fromkeys(names)))
