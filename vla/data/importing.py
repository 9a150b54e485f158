"""`vla data import`: the episodes of a source, as a card describes them, into a LeRobot v3 dataset."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vla import assets
from vla.data.card import Card
from vla.data.convert import RawEpisode, convert
from vla.data.join import KEPT, join_parts, kept_in
from vla.data.staging import Span, Staging, check_output
from vla.data.statistics import correct_stats
from vla.data.workers import Report, progress_bar, run_spans
from vla.errors import UserError
from vla.spec import RobotSpec

if TYPE_CHECKING:
    from vla.data.recorder import EpisodeRecorder

COMMAND = "import"
BLOCK = 100
"""Episodes per part at most, which is what an interruption can cost."""
RECORD = Path("meta/import.json")
CARD = Path("meta/card.yaml")
"""A copy of the card, with source and licence, travels with the data."""


class Source(Protocol):
    """Where episodes come from. Goes to worker processes, so it holds paths, not open files."""

    @property
    def place(self) -> Path: ...

    @property
    def episodes(self) -> int: ...

    def settings(self) -> dict[str, Any]:
        """What the imported data depends on, beside the card."""
        ...

    def robot_spec(self, card: Card) -> RobotSpec:
        """The spec of what `convert` makes. Raises UserError where the card does not fit the source."""
        ...

    def read(self, start: int, stop: int) -> Iterator[RawEpisode]:
        """Episodes start, ..., stop - 1, each good until the next. Raises UserError for what is damaged."""
        ...


def import_source(source: Source, card_name: str, out: Path, workers: int = 1) -> None:
    """Import into `out`, going on where an interrupted run stopped.

    Raises UserError for a card that does not fit, before any work; for damaged data, saying where; and for an output
    that cannot be written. Then `out` does not exist.
    """
    card, out = Card.load(card_name), out.resolve()
    assets.check_folder_writable(out)
    assets.check_folder_writable(out.parent)
    spec = source.robot_spec(card)
    if not card.verified:
        print(f"vla: card {card.name} is not verified: check the imported data before use", file=sys.stderr)
    wanted = source.settings() | _card_settings(card_name)
    if check_output(out, RECORD, wanted, COMMAND):
        print(f"{source.episodes} episodes in {out} (they were there)")
        return
    staging = Staging(out, wanted, COMMAND)
    job = Job(source, card_name, spec, staging)
    with staging.opened():
        notes = _import_parts(job, source.episodes, workers)
        parts = [part for part in staging.parts().values() if kept_in(part)]
        if not parts:
            raise UserError(f"import: no episode of {source.place} passes the filters of card {card.name}")
        joined = staging.unfinished(Span(0, 0))
        with progress_bar("joining", 1), _writing(staging.folder):
            join_parts(parts, joined)
            correct_stats(joined)
            shutil.copy(assets.find("card", card_name), joined / CARD)
            (joined / RECORD).write_text(json.dumps(wanted, indent=2))
            total = json.loads((joined / "meta" / "info.json").read_text())
            staging.finish(joined)
    for name in sorted(notes):
        print(
            f"vla: card {card.name}: values of the {name} leave the card's range; check its convention", file=sys.stderr
        )
    print(f"{total['total_episodes']} episodes, {total['total_frames']} steps in {out}")


@dataclass(frozen=True)
class Job:
    """What a worker needs to import any span of episodes."""

    source: Source
    card: str
    spec: RobotSpec
    staging: Staging


def _import_parts(job: Job, episodes: int, workers: int) -> set[str]:
    """Whatever parts are missing; returns the names of fields with values out of range."""
    notes: set[str] = set()
    missing = sum(map(len, job.staging.missing(episodes, episodes)))
    block = max(1, min(BLOCK, -(-missing // workers)))
    with progress_bar("episodes", episodes, episodes - missing) as advance:

        def done(out_of_range: tuple[str, ...]) -> None:
            notes.update(out_of_range)
            advance(1)

        run_spans(_ImportWorker, job, job.staging.missing(episodes, block), workers, done)
    return notes


class _ImportWorker:
    """Converts spans of episodes and records each as a dataset; runs in a process of its own."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.card = Card.load(job.card)

    def run(self, span: Span, report: Report) -> None:
        folder = self.job.staging.unfinished(span)
        recorder, kept = None, 0
        for raw in self.job.source.read(span.start, span.stop):
            converted = convert(self.card, self.job.spec, raw)
            with _writing(self.job.staging.folder):
                for passage in converted.passages:
                    recorder = recorder or self._recorder(folder)
                    recorder.write_frames(passage.task, passage.frames())
                    kept += 1
            report(converted.out_of_range)
        with _writing(self.job.staging.folder):
            if recorder:
                recorder.close()
            folder.mkdir(exist_ok=True)
            (folder / KEPT).write_text(str(kept))
            self.job.staging.commit(span)

    def close(self) -> None:
        pass

    def _recorder(self, folder: Path) -> EpisodeRecorder:
        from vla.data.recorder import EpisodeRecorder  # seconds of importing, for nothing if the first record is bad

        return EpisodeRecorder(folder, self.job.spec, labels=False)


def _card_settings(card_name: str) -> dict[str, Any]:
    card = assets.find("card", card_name).read_bytes()
    return {"card": Path(card_name).stem, "card_sha256": hashlib.sha256(card).hexdigest()}


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """A disk that is full or fails is the person's to put right. Libraries wrap its error, so look for the cause."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not (isinstance(cause, OSError) and cause.errno):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        reason = cause.strerror or cause
        raise UserError(f"import: cannot write to {folder}: {reason}; make room or choose another --out") from None
