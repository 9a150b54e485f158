"""Long work that survives interruption: whole parts gather beside the output, which appears only when complete.

A run into `DIR` keeps its parts in `DIR.partial`. Killed at any moment, it leaves there only whole parts (a part is
written under another name and renamed), and the same command goes on with what is missing.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.errors import UserError


@contextmanager
def held(folder: Path, command: str) -> Iterator[None]:
    """Make `folder` and hold it for this process alone; UserError if another one does."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{command}: another run is writing to {folder}; wait for it or stop it") from None
        yield


@dataclass(frozen=True, order=True)
class Span:
    """Items start, ..., stop - 1 of the work: attempts at episodes, or scenes."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def name(self) -> str:
        return f"part-{self.start:07d}-{self.stop:07d}"


@dataclass(frozen=True)
class Staging:
    """The parts of one run. `settings` are what its items depend on; a run with others is refused."""

    out: Path
    settings: Mapping[str, Any]
    command: str = "collect"

    @property
    def folder(self) -> Path:
        return self.out.with_name(f"{self.out.name}.partial")

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the staging folder for this process alone; UserError if another run holds it or made it."""
        with held(self.folder, self.command):
            self._check_settings()
            self._remove_unfinished()
            try:
                yield
            finally:
                self._remove_unfinished()
                if not self.parts():
                    shutil.rmtree(self.folder, ignore_errors=True)

    def parts(self) -> dict[Span, Path]:
        """The whole parts so far, in order."""
        found = (path for path in self.folder.glob("part-*") if not path.suffix)
        return dict(sorted((Span(*map(int, path.name.split("-")[1:])), path) for path in found))

    def missing(self, total: int, block: int) -> list[Span]:
        """What of the first `total` items no part covers, in spans of at most `block`."""
        spans, at = [], 0
        for done in (*self.parts(), Span(total, total)):
            while at < min(done.start, total):
                spans.append(Span(at, min(at + block, done.start, total)))
                at = spans[-1].stop
            at = max(at, done.stop)
        return spans

    def unfinished(self, span: Span) -> Path:
        """Where to write a part, or (for span 0:0) the joined whole, until it is complete."""
        return self.folder / f"{span.name}.{os.getpid()}"

    def commit(self, span: Span) -> None:
        self.unfinished(span).rename(self.folder / span.name)

    def finish(self, joined: Path) -> None:
        """Put the joined whole in place and drop the parts."""
        if self.out.exists():
            self.out.rmdir()  # empty: `check_output` saw to it
        joined.rename(self.out)
        shutil.rmtree(self.folder)

    def _check_settings(self) -> None:
        file = self.folder / "settings.json"
        if not file.exists():
            partial = file.with_suffix(".new")
            partial.write_text(json.dumps(dict(self.settings), indent=2))
            partial.rename(file)
            return
        found = json.loads(file.read_text())
        if found != json.loads(json.dumps(dict(self.settings))):
            raise UserError(
                f"{self.command}: {self.folder} holds an interrupted run with other settings "
                f"({describe_difference(found, self.settings)}); finish it, delete the folder or choose another --out"
            )

    def _remove_unfinished(self) -> None:
        for path in self.folder.glob("part-*.*"):
            shutil.rmtree(path, ignore_errors=True)


def check_output(out: Path, record: Path, wanted: Mapping[str, Any], command: str = "collect") -> bool:
    """Whether `out` already holds the wanted data; UserError if it holds anything else.

    record: the file inside `out` in which a finished run of this kind wrote its settings.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    file = out / record
    if not file.is_file():
        raise UserError(f"{command}: {out} exists and was not made by this kind of run; choose another --out")
    try:
        found = {key: json.loads(file.read_text()).get(key) for key in wanted}
    except (ValueError, AttributeError):
        raise UserError(f"{command}: {file} cannot be read; choose another --out") from None
    if found != dict(wanted):
        raise UserError(
            f"{command}: {out} already holds other data ({describe_difference(found, wanted)}); choose another --out"
        )
    return True


def describe_difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    keys = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    return ", ".join(f"{key} {found.get(key)!r}, now {wanted.get(key)!r}" for key in keys)
