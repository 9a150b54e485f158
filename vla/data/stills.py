"""Still scenes with words: tens of thousands of distinct scenes, what S2 learns to see and to speak from.

On disk: `front.npy` uint8 (N, H, W, 3), `cells.npy` uint8 (N, H/8, W/8), `objects.npy` float32 (N, C, 3) holding
present, u, v per class, `words.jsonl` with the questions of scene i in line i, `lines.npy` int64 (N + 1,) with the
byte at which each line starts, `meta.json` and `robot_spec.yaml`.
"""

from __future__ import annotations

import importlib
import json
import mmap
import shutil
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla import assets
from vla.data.staging import Span, Staging, check_output
from vla.data.workers import Report, progress_bar, run_spans
from vla.errors import UserError
from vla.robots.gym_sim import Environment, check_installed, find_environment, make_environment

VERSION = 3
BLOCK = 200
"""Scenes per part: a few seconds of work, which is what an interruption can cost."""
MOMENTS = 8
"""Up to so many stills are moments of one scene, if it is played into."""
ARRAYS = ("front", "cells", "objects")
RECORD = Path("meta.json")


@dataclass(frozen=True)
class StillSettings:
    """What scene i depends on, beside i."""

    env: str
    seed: int
    task: str
    size: int = 96
    version: int = VERSION


class StillScenes:
    """Still scenes read from disk, memory-mapped; safe to hand to other processes.

    front: uint8 (N, H, W, 3). cells: uint8 (N, H/8, W/8), 0 for background, i + 1 for classes[i].
    objects: float32 (N, C, 3): present, u, v. Raises UserError if `folder` holds no whole set of still scenes.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / RECORD).is_file() or not (self.folder / "words.jsonl").is_file():
            raise UserError(f"still scenes: {self.folder} holds none; make some with vla collect --stills N")
        try:
            self.meta: dict[str, Any] = json.loads((self.folder / RECORD).read_text())
            self.front, self.cells, self.objects, self._lines = (
                np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in (*ARRAYS, "lines")
            )
            self.classes: tuple[str, ...] = tuple(self.meta["classes"])
            self.families: tuple[str, ...] = tuple(self.meta["families"])
            lengths = {len(self.front), len(self.cells), len(self.objects), len(self._lines) - 1, self.meta["count"]}
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"still scenes: {self.folder} is damaged ({error}); collect them again") from None
        if len(lengths) > 1 or int(self._lines[-1]) != (self.folder / "words.jsonl").stat().st_size:
            raise UserError(f"still scenes: the files in {self.folder} do not belong together; collect them again")

    def __len__(self) -> int:
        return len(self.front)

    def questions(self, index: int) -> list[dict[str, Any]]:
        """The questions on scene `index`: kind, prompt, answer, target, goal, family."""
        return json.loads(self._words[self._lines[index] : self._lines[index + 1]])["questions"]

    @cached_property
    def _words(self) -> mmap.mmap:
        with open(self.folder / "words.jsonl", "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]


def collect_stills(settings: StillSettings, count: int, out: Path, workers: int) -> int:
    """Render `count` scenes into `out`, going on where an interrupted run stopped; returns how many are new.

    Scene i depends on the settings and i alone, not on workers or interruptions. It may be a later moment of scene
    i - 1 (an environment's `next_still`, if it has one).
    """
    out = out.resolve()
    if check_output(out, RECORD, {**asdict(settings), "count": count}):
        return 0
    staging = Staging(out, asdict(settings) | {"kind": "stills", "count": count})
    with staging.opened():
        spans = staging.missing(count, BLOCK)
        new = sum(map(len, spans))
        with progress_bar("still scenes", count, count - new) as advance:
            run_spans(_StillWorker, (settings, staging), spans, workers, advance)
        joined = staging.unfinished(Span(0, 0))
        parts = list(staging.parts().values())
        _join(parts, joined)
        meta = json.loads((parts[0] / RECORD).read_text())
        (joined / RECORD).write_text(json.dumps({**meta, **asdict(settings), "count": count}, indent=2))
        shutil.copy(assets.find("robot", find_environment(settings.env).robot), joined / "robot_spec.yaml")
        staging.finish(joined)
    return new


class _StillWorker:
    """Renders spans of scenes; runs in a process of its own."""

    def __init__(self, job: tuple[StillSettings, Staging]) -> None:
        self.settings, self.staging = job
        self._reached = -1
        entry = find_environment(self.settings.env, self.settings.task)
        self.labels = labels_of(entry)
        self.classes, self.families = self.labels.CLASSES, self.labels.FAMILIES
        options = {"task": self.settings.task, "obs_size": self.settings.size, "render": False, **entry.kwargs}
        self.envs = [make_environment(entry, **options, **look).unwrapped for look in entry.looks]

    def run(self, span: Span, report: Report) -> None:
        size = self.settings.size
        front = np.zeros((len(span), size, size, 3), np.uint8)
        cells = np.zeros((len(span), size // 8, size // 8), np.uint8)
        objects = np.zeros((len(span), len(self.classes), 3), np.float32)
        lines = []
        for row, index in enumerate(range(span.start, span.stop)):
            front[row], cells[row], objects[row], questions = self._scene(index)
            lines.append(json.dumps({"questions": questions}, separators=(",", ":")))
            if row % 10 == 9 or row == len(span) - 1:
                report(row % 10 + 1)
        folder = self.staging.unfinished(span)
        folder.mkdir()
        np.save(folder / "front.npy", front)
        np.save(folder / "cells.npy", cells)
        np.save(folder / "objects.npy", objects)
        (folder / "words.jsonl").write_text("".join(f"{line}\n" for line in lines))
        (folder / RECORD).write_text(json.dumps({"classes": self.classes, "families": self.families}))
        self.staging.commit(span)

    def close(self) -> None:
        for env in self.envs:
            env.close()

    def _scene(self, index: int) -> tuple[NDArray, NDArray, NDArray, list[dict[str, Any]]]:
        env = self._reach(index)
        cells, objects, questions = self.labels.label(env, np.random.default_rng([self.settings.seed, index]))
        return env.image("front"), cells, objects, questions

    def _reach(self, index: int) -> Any:
        """The environment at scene `index`: a later moment of the one before, or a scene of its own."""
        env: Any = self.envs[index // MOMENTS % len(self.envs)]
        later = index % MOMENTS > 0 and hasattr(env, "next_still")
        if later and self._reached != index - 1:
            self._reach(index - 1)
        self._reached = index
        if not (later and env.next_still(np.random.default_rng([self.settings.seed, index, 1]))):
            env.reset(seed=self.settings.seed + index, options={"still": True})
        return env


def labels_of(entry: Environment) -> Any:
    """The `labels` module of an environment's package: CLASSES, FAMILIES and `label(env, source of chance)`.

    UserError if it has none, or its package is missing.
    """
    check_installed(entry)
    try:
        return importlib.import_module(f"{entry.module}.labels")
    except ModuleNotFoundError as error:
        if error.name not in (f"{entry.module}.labels", entry.module):
            raise
        raise UserError(f"environment {entry.id} has no labels for still scenes") from None


def _join(parts: list[Path], joined: Path) -> None:
    """Concatenate parts, file by file, without holding them in memory."""
    joined.mkdir()
    for name in ARRAYS:
        arrays = [np.load(part / f"{name}.npy", mmap_mode="r") for part in parts]
        shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
        whole = np.lib.format.open_memmap(joined / f"{name}.npy", "w+", arrays[0].dtype, shape)
        at = 0
        for array in arrays:
            whole[at : at + len(array)] = array
            at += len(array)
        whole.flush()
    starts = [0]
    with open(joined / "words.jsonl", "wb") as words:
        for part in parts:
            for line in (part / "words.jsonl").read_bytes().splitlines(keepends=True):
                words.write(line)
                starts.append(starts[-1] + len(line))
    np.save(joined / "lines.npy", np.array(starts, np.int64))
