"""`vla data annotate`: every episode of a dataset asked about once, going on where an interrupted run stopped."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vla.data.annotations import FILE, Annotation, Source, check_annotations, read_annotations, write_annotations
from vla.data.annotators import Annotator, Asked, Unusable
from vla.data.doctor.recording import Recording
from vla.data.staging import held
from vla.data.workers import progress_bar
from vla.errors import UserError

SAVE_EVERY_S = 5.0
"""How much work a crash can cost."""


@dataclass(frozen=True)
class Done:
    """annotated: how many now; kept: how many were there. skipped: (episode, why) of those nothing can be said of."""

    annotated: int
    kept: int
    skipped: tuple[tuple[int, str], ...]


def annotate(
    recording: Recording, annotator: Annotator, source: Source, replace: bool = False, episodes: Iterable[int] = ()
) -> Done:
    """Write `meta/annotations.jsonl` of the dataset, whole at every moment.

    An episode with words is left as it is, unless `replace`; what a person wrote always is. One that was skipped is
    asked about again if the source is another now. episodes: these (default all). Raises UserError if the file is
    damaged, an episode is not there, the disk refuses, or another run is writing.
    """
    file = recording.root / "meta" / FILE
    chosen = list(episodes) or list(recording.episodes)
    unknown = [number for number in chosen if number not in recording.episodes]
    if unknown:
        raise UserError(f"dataset {recording.root}: no episode {unknown[0]}; it has {len(recording.episodes)}")
    tasks = {entry.number: entry.tasks[0] if entry.tasks else "" for entry in recording.entries}
    lock = recording.root / "meta" / ".annotating"
    try:
        with held(lock, "annotate"):
            check_annotations(file, [place.stop - place.start for place in recording.episodes.values()])
            found = read_annotations(file)
            open_ = [n for n in chosen if replace or not _is_done(found.get(n), source)]
            open_ = [n for n in open_ if n not in found or found[n].source.kind != "person"]
            saver = _Saver(lambda: write_annotations(file, found.values()))
            try:
                with progress_bar("episodes", len(chosen), len(chosen) - len(open_)) as advance:
                    for number in open_:
                        asked = Asked(recording, number, recording.episodes[number], tasks.get(number, ""))
                        found[number] = _one(asked, annotator, source)
                        saver.changed()
                        advance(1)
            finally:
                saver.save()
            shutil.rmtree(lock)
    except OSError as error:
        raise UserError(f"annotate: cannot write to {file.parent}: {error.strerror or error}") from None
    skipped = tuple((number, found[number].skipped) for number in open_ if found[number].skipped)
    return Done(len(open_) - len(skipped), len(chosen) - len(open_), skipped)


def _one(asked: Asked, annotator: Annotator, source: Source) -> Annotation:
    try:
        words = annotator(asked)
    except Unusable as error:
        return Annotation(asked.number, asked.frames, asked.task, source, skipped=str(error))
    return Annotation(asked.number, asked.frames, asked.task, source, words)


def _is_done(known: Annotation | None, source: Source) -> bool:
    return known is not None and (not known.skipped or known.source == source)


class _Saver:
    """Saves what has changed now and then, and what is left at the end."""

    def __init__(self, write: Callable[[], None]) -> None:
        self._write, self._changed, self._saved = write, False, time.monotonic()

    def changed(self) -> None:
        self._changed = True
        if time.monotonic() - self._saved >= SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        if self._changed:
            self._write()
            self._changed, self._saved = False, time.monotonic()
