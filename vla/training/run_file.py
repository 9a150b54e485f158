"""run.json: what a run was started with, and goes on with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vla.errors import UserError
from vla.s2.hub import version_of
from vla.strict import parse
from vla.tandem import SLOW_FOLDER
from vla.training.datasets import Data, content_of
from vla.training.examples import DriverWeights
from vla.training.recipe import Recipe

RUN_FILE = "run.json"
VERSION = 1


@dataclass(frozen=True)
class RunFile:
    """datasets: folders, with their weights if they have any. start: whose weights it began with, None: nobody's.

    content: folder -> what its episodes or still scenes are told by.
    """

    recipe: Recipe
    datasets: list[str] | dict[str, float]
    drivers: dict[str, float] | None
    start: dict[str, Any] | None
    content: dict[str, Any]

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        datasets: Sequence[Path],
        data: Data,
        weights: Sequence[float] | None,
        drivers: DriverWeights | None,
        policy: str | None,
        s2: str | None,
    ) -> RunFile:
        """As `vla.training.run.train` takes them. data: what the datasets hold."""
        folders: list[str] | dict[str, float] = [str(folder.resolve()) for folder in datasets]
        content = {str(folder.resolve()): content_of(folder, data) for folder in datasets}
        if weights and any(weight != 1 for weight in weights):
            folders = dict(zip(folders, weights, strict=True))
        return cls(recipe, folders, asdict(drivers) if drivers else None, _start(policy, s2), content)

    def check(self, out: Path) -> None:
        """UserError unless `out` holds this run, or nothing yet."""
        path = out / RUN_FILE
        try:
            if path.is_file():
                self._compare(json.loads(path.read_text()), out)
            elif out.exists() and (not out.is_dir() or any(out.iterdir())):
                raise UserError(f"{out} holds something that is no training run; choose another --out")
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"training output {out}: {error}") from None

    def _compare(self, known: dict[str, Any], out: Path) -> None:
        # Parsed, so that a key the program has learned since counts as its default.
        same = {
            "recipe": parse(Recipe, known.get("recipe"), str(out / RUN_FILE)) == self.recipe,
            "list of datasets or weights": known.get("datasets") == self.datasets,
            "--autonomous, --corrections or --failures": _drivers(known.get("drivers")) == _drivers(self.drivers),
            # Wherever they lie. Runs that are older than this entry do not say.
            "--policy or --s2": "start" not in known or _weights(known["start"]) == _weights(self.start),
        }
        differing = next((what for what, agrees in same.items() if not agrees), None)
        if differing:
            raise UserError(f"{out} holds a run with another {differing}; choose another --out")
        was = known.get("content", {})  # which older runs do not say
        for folder, content in self.content.items():
            if was.get(folder, content) != content:
                raise UserError(f"{out} holds a run on other contents of {folder}; choose another --out")

    def write(self, out: Path) -> None:
        """Make `out` this run's folder, if it is not yet."""
        if (out / RUN_FILE).is_file():
            return
        run = {"version": VERSION, **asdict(self), "recipe": self.recipe.to_dict()}
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / RUN_FILE).write_text(json.dumps(run, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"training output {out}: {error}") from None


def _start(policy: str | None, s2: str | None) -> dict[str, Any] | None:
    if policy:
        folder = Path(policy)
        return {"policy": policy, "weights": [version_of(folder), version_of(folder / SLOW_FOLDER)]}
    return {"s2": s2, "weights": [version_of(Path(s2) / SLOW_FOLDER)]} if s2 else None


def _drivers(known: dict[str, float] | None) -> DriverWeights:
    return DriverWeights(**(known or {}))


def _weights(start: dict[str, Any] | None) -> list[str]:
    return start["weights"] if start else []
