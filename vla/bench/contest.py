"""Who takes part in `vla bench policies`, and how each is trained: ours by a recipe, LeRobot's in the same loop."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from vla import assets
from vla.errors import UserError
from vla.peers.stage import PeerRecipe, PeerStage, new_peer
from vla.runtime.variants import Variant
from vla.strict import parse, read_yaml
from vla.training.datasets import open_cache
from vla.training.examples import Examples, fit_normalizer
from vla.training.loop import LOG, LoopConfig, fit
from vla.training.recipe import Recipe, load_recipe
from vla.training.run import train


@dataclass(frozen=True)
class Entrant:
    """One row: a `recipe` of ours, or a `peer` of LeRobot's.

    recipe: a shipped name or a file; change: what is different from it, as nested keys; shares: of the time, by stage.
    peer: see `PeerRecipe`; loop: of its training, such as lr.
    """

    name: str
    recipe: str = ""
    change: dict = field(default_factory=dict)
    shares: tuple[float, ...] = ()
    peer: PeerRecipe | None = None
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if bool(self.recipe) == bool(self.peer):
            raise ValueError("give either a recipe or a peer")
        if self.name != Path(self.name).name or self.name.startswith("."):
            raise ValueError(f"name is {self.name!r}, it names a folder")

    @property
    def late(self) -> Variant:
        """How it runs when S2 is late: a peer that reads and looks in one model has one rate, and the robot waits."""
        return "synchronous" if self.peer is not None and not self.peer.text else "two-speed"


@dataclass(frozen=True)
class Field:
    """The entrants of a file, in its order; the first is who the others are compared with."""

    policies: tuple[Entrant, ...]

    def __post_init__(self) -> None:
        names = [entrant.name for entrant in self.policies]
        if not names or len(set(names)) < len(names):
            raise ValueError("policies: there must be some, and their names must differ")


@dataclass(frozen=True)
class Trained:
    """policy: its folder. seconds: in the training loop, and while S2 read the episodes for S1; wall_s: everything,
    preparing other data included, in all calls. samples_per_s: frames and still scenes of the steps, over `seconds`.
    """

    policy: str
    seconds: float
    wall_s: float
    samples_per_s: float


def load_field(name: str | Path) -> Field:
    """A shipped name or a YAML file; UserError names what is wrong in it."""
    file = assets.find("contest", name)
    found = parse(Field, read_yaml(file, f"contest {file.name}"), f"contest {file.name}")
    for entrant in found.policies:
        if entrant.recipe:
            _timed_recipe(entrant, 1.0)
    return found


def content(entrant: Entrant, datasets: Sequence[Path]) -> dict[str, Any]:
    """What names and paths stand for: the recipe as it reads, and a digest of what each dataset says of itself."""
    recipe = _timed_recipe(entrant, 1.0).to_dict() if entrant.recipe else None
    return {"recipe": recipe, "data": [_says_of_itself(folder) for folder in datasets]}


def _says_of_itself(dataset: Path) -> str:
    """A digest of its counts, statistics, words and how it was made: quick, whatever its pictures weigh."""
    digest = hashlib.sha256()
    for file in sorted((*dataset.glob("*.json*"), *dataset.glob("meta/*.json*"))):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def with_episodes(datasets: Sequence[Path]) -> list[Path]:
    """Those that are not of still scenes."""
    return [folder for folder in datasets if not (folder / "words.jsonl").is_file()]


def train_entrant(entrant: Entrant, datasets: Sequence[Path], seconds: float, out: Path, device: str) -> Trained:
    """Train for so many seconds into `out`; goes on where it was stopped, and only reads what is finished."""
    done, policy = out / "trained.json", str(out / "run" / "policy")
    if done.is_file():
        return replace(Trained(**json.loads(done.read_text(encoding="utf-8"))), policy=policy)
    out.mkdir(parents=True, exist_ok=True)
    wall_s = out / "wall_s.txt"
    with _added_to(wall_s):
        if entrant.peer is not None:
            batches = _train_peer(entrant, entrant.peer, datasets, seconds, out / "run", device)
        else:
            batches = _train_ours(entrant, datasets, seconds, out, device)
    logs = {folder: _last_line(folder / LOG) for folder in batches}
    spent = sum(line["spent_s"] for line in logs.values())
    samples = sum(line["step"] * batches[folder] for folder, line in logs.items())
    found = Trained(policy, spent, float(wall_s.read_text()), samples / spent)
    done.write_text(json.dumps(vars(found)), encoding="utf-8")
    return found


@contextmanager
def _added_to(file: Path) -> Iterator[None]:
    """Adds the seconds until the end, or an interruption, to those that the file has of earlier calls."""
    before, begin = float(file.read_text()) if file.is_file() else 0.0, time.monotonic()
    try:
        yield
    finally:
        file.write_text(str(before + time.monotonic() - begin))


def _train_ours(entrant: Entrant, datasets: Sequence[Path], seconds: float, out: Path, device: str) -> dict[Path, int]:
    """Returns the folder of each stage and its frames a step."""
    recipe = _timed_recipe(entrant, seconds)
    file = out / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False), encoding="utf-8")
    train(datasets, out / "run", file, device)
    sizes = {"words": lambda s: s.words.images, "s1": lambda s: s.s1.batch, "joint": lambda s: s.joint.s1.batch}
    return {
        out / "run" / f"{number}-{stage.stage}": int(sizes[stage.stage](stage))
        for number, stage in enumerate(recipe.stages, 1)
    }


def _train_peer(
    entrant: Entrant, peer: PeerRecipe, datasets: Sequence[Path], seconds: float, out: Path, device: str
) -> dict[Path, int]:
    caches = [open_cache(folder) for folder in with_episodes(datasets)]
    if not caches:
        raise UserError("bench policies: no dataset of episodes; give --dataset DIR made by vla collect --episodes N")
    examples = Examples(caches, fit_normalizer(caches))
    stage = PeerStage(new_peer(peer, examples, entrant.loop.seed, out), examples, peer.batch, entrant.loop.seed)
    fit(stage, replace(entrant.loop, seconds=seconds, device=device), out)
    stage.save(out)
    return {out: peer.batch}


def _timed_recipe(entrant: Entrant, seconds: float) -> Recipe:
    """The recipe with its changes, and each stage for its share of the time."""
    base = load_recipe(assets.find("recipe", entrant.recipe))
    shares = entrant.shares or tuple(1 / len(base.stages) for _ in base.stages)
    if len(shares) != len(base.stages) or not abs(sum(shares) - 1) < 1e-6 or min(shares) <= 0:
        raise UserError(
            f"contest: {entrant.name}.shares must be {len(base.stages)} numbers above 0 that add up to 1, one for each "
            f"stage of recipe {entrant.recipe}"
        )
    changed = parse(Recipe, _merged(base.to_dict(), entrant.change), f"contest: {entrant.name}.change")
    stages = tuple(
        replace(stage, loop=replace(stage.loop, seconds=share * seconds))
        for stage, share in zip(changed.stages, shares, strict=True)
    )
    return replace(changed, stages=stages)


def _merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the nested keys of `change` in place of its own."""
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _last_line(log: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["kind"] == "train"][-1]
