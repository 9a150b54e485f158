"""Conditions of a study, each measured once: outcomes are kept in files, so that an interrupted study goes on."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from vla import assets
from vla.errors import UserError
from vla.evaluation.console import progress_bar
from vla.evaluation.pool import Crew, Job, Part
from vla.evaluation.setup import Setup
from vla.evaluation.statistics import percentiles
from vla.policies import device_of, weights_of


@dataclass(frozen=True)
class Measured:
    """outcomes: in seed order. s1_ms, s2_ms: percentiles of a chunk's and a thought's computation, empty if they were
    not kept. unparaphrased: episodes that had no other words, although these were wanted. device: where the policy
    computed, empty if it was not kept.
    """

    outcomes: list[bool]
    s1_ms: dict[str, float | None]
    s2_ms: dict[str, float | None]
    unparaphrased: int
    device: str


def devices(found: Iterable[Measured]) -> str:
    """Where the policy computed, in words: of a study that went on elsewhere, all of them."""
    return " and ".join(sorted({one.device or "unknown" for one in found}))


def families_in_turn(setup: Setup, tasks: Sequence[str], episodes: int, seed: int) -> list[Part]:
    """Family i of n plays the seeds seed + i, seed + i + n, ..."""
    turns = (range(which, episodes, len(tasks)) for which in range(len(tasks)))
    return [
        (replace(setup, task=task), [Job(index, seed + index) for index in turn])
        for task, turn in zip(tasks, turns, strict=True)
    ]


class Points:
    """The conditions of a study, each in a file of `folder`. players: who plays those that are missing.

    loaded: whether they drive a policy that was loaded already, whose weights no file can tell. device: of the
    policies, as `load_policy` takes it; no part of what is asked.
    """

    def __init__(self, folder: Path, players: Crew, loaded: bool = False, device: str = "cpu") -> None:
        self._folder, self._players, self._loaded, self._device = folder, players, loaded, device
        self._weights_of = cache(weights_of)
        self._taken_as_is = False

    def measure(self, name: str, asked: dict[str, Any], parts: Sequence[Part]) -> Measured:
        """Have `parts`, all of one policy, played, or read what is known of them.

        asked: everything else that decides the outcomes, as plain JSON. What other weights did is measured again; files
        that do not say whose it was are taken as they are. Raises UserError if the file is of something else.
        """
        file, wanted = self._folder / f"{name}.json", dict(asked)
        if not self._loaded:
            wanted["weights"] = self._weights_of(parts[0][0].policy)
        known = self._read(file, wanted)
        return self._play(file, wanted, parts) if known is None else known

    def _read(self, file: Path, wanted: dict[str, Any]) -> Measured | None:
        if not file.is_file():
            return None
        known = json.loads(file.read_text(encoding="utf-8"))
        then = dict(known.get("asked") or {})
        if "weights" not in then and "weights" in wanted:
            then["weights"] = wanted["weights"]
            self._say_taken_as_is()
        if then == wanted:
            s1_ms, s2_ms = (known.get(name, {}) for name in ("s1_ms", "s2_ms"))
            return Measured(known["outcomes"], s1_ms, s2_ms, known.get("unparaphrased", 0), known.get("device", ""))
        if then | {"weights": ""} != wanted | {"weights": ""}:
            raise UserError(f"bench: {file} is of another study; choose another --out")
        print(f"bench: {file} is of other weights of this policy; measured again")
        return None

    def _play(self, file: Path, wanted: dict[str, Any], parts: Sequence[Part]) -> Measured:
        outcomes: dict[int, bool] = {}
        chunks: list[float] = []
        thoughts: list[float] = []
        unparaphrased = 0
        placed = [(replace(setup, device=self._device), jobs) for setup, jobs in parts]
        with progress_bar(file.stem, sum(len(jobs) for _, jobs in parts)) as show:
            for result in self._players.play(placed):
                outcomes[result.index] = result.success
                chunks += result.s1_ms
                thoughts += result.s2_ms
                unparaphrased += result.counts.get("unparaphrased", 0)
                show(result)
        done = [outcomes[index] for index in sorted(outcomes)]
        device = device_of(parts[0][0].policy, self._device)
        found = Measured(done, percentiles(chunks), percentiles(thoughts), unparaphrased, device)
        assets.write_file(file, json.dumps({"asked": wanted, **vars(found)}), "bench")
        return found

    def _say_taken_as_is(self) -> None:
        if not self._taken_as_is:
            print(f"bench: files in {self._folder} do not say of which weights they are; taken as they are")
        self._taken_as_is = True
