"""What S2 says of scenes it has never seen: how often the words are right, and how near the places.

Existence is also asked after what is not there (POPE, arXiv 2305.10355): anything, what is often asked for, and what
could be put together of a colour and a shape that are there.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.bench.table import Row, report
from vla.data.stills import StillScenes, StillSettings, collect_stills
from vla.data.workers import progress_bar
from vla.errors import UserError
from vla.evaluation.statistics import wilson
from vla.policies import device_of, load_here
from vla.s2.places import places_in, plain_words
from vla.s2.system import SlowSystem

BATCH = 64
LONGEST = 96
"""Tokens of the longest answer, a caption of a full table."""

_PROGRESS = re.compile(r",? (\d+) percent")


@dataclass(frozen=True)
class Said:
    """A question, the true answer, and S2's."""

    question: dict[str, Any]
    answer: str

    @property
    def right(self) -> bool:
        """The same words; places and progress are judged by their distance."""
        said, true = (_words(answer) for answer in (self.answer, self.question["answer"]))
        return said == true

    @property
    def progress_error(self) -> float | None:
        """Of a subtask's percent, as a share; None where there is none to say."""
        said, true = (_PROGRESS.search(answer) for answer in (self.answer, self.question["answer"]))
        return abs(int(said[1] if said else -100) - int(true[1])) / 100 if true else None

    def distance(self, size: int) -> float:
        """From the place S2 names first to the true one, in pixels; the whole image where it names none."""
        place = next(iter(places_in(self.answer)), None)
        return size * float(np.hypot(*np.subtract(place, self.question["target"]))) if place else float(size)


def bench_words(
    policy: str, env: str, scenes: int, seed: int, workers: int, loaded: Any = None, device: str = "cpu"
) -> dict[str, Any]:
    """Ask S2 all there is to ask about `scenes` new scenes from `seed` on; returns the benchmark document.

    The peer is the most frequent answer of each kind of question, and for places their mean. `loaded` is used instead
    of loading `policy`. Raises UserError if the environment has no words.
    """
    if scenes < 1:
        raise UserError(f"bench words: {scenes} scenes are too few to ask about")
    tandem: Any = loaded if loaded is not None else load_here(policy, device=device)
    with tempfile.TemporaryDirectory(prefix="vla-words-") as folder:
        collect_stills(StillSettings(env, seed, "all"), scenes, Path(folder) / "stills", workers)
        stills = StillScenes(Path(folder) / "stills")
        size = stills.front.shape[2]
        by_kind = _ask_all(tandem.s2, stills)
    rows, kinds = [], {}
    for kind, said in by_kind.items():
        rows += _rows(kind, said, size)
        low, high = wilson(sum(s.right for s in said), len(said))
        kinds[kind] = {"questions": len(said), "right": float(np.mean([s.right for s in said])), "ci95": [low, high]}
    document = report(f"What S2 says of {scenes} new scenes of {env}", rows)
    return document | {"device": device_of(policy, device), "kinds": kinds}


def _ask_all(s2: SlowSystem, stills: StillScenes) -> dict[str, list[Said]]:
    import torch

    asked = [(scene, question) for scene in range(len(stills)) for question in _once(stills.questions(scene))]
    # Answers of one batch take as long as its longest.
    asked.sort(key=lambda pair: (pair[1]["kind"], len(pair[1]["answer"])))
    by_kind: dict[str, list[Said]] = {}
    with progress_bar("words", len(asked)) as advance, torch.inference_mode():
        for batch in _chunks(asked, BATCH):
            views = np.stack([stills.front[scene] for scene, _ in batch])[:, None]
            answers = s2.speak(torch.from_numpy(views), [question["prompt"] for _, question in batch], LONGEST)
            for (_, question), answer in zip(batch, answers, strict=True):
                by_kind.setdefault(question["kind"], []).append(Said(question, answer))
            advance(len(batch))
    return by_kind


def _once(questions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Training asks some of them twice, to weigh more; here they would count as independent."""
    return list({(question["kind"], question["prompt"]): question for question in questions}.values())


def _rows(kind: str, said: Sequence[Said], size: int) -> list[Row]:
    truth = [_words(one.question["answer"]) for one in said]
    rows = []
    if kind != "pointing":
        usual = max(Counter(truth).values()) / len(truth)
        rows.append(Row(kind, float(np.mean([one.right for one in said])), "right", "the usual answer", usual))
    placed = [one for one in said if one.question["target"]]
    if placed:
        places = np.array([one.question["target"] for one in placed])
        usual = float(np.median(size * np.hypot(*(places - places.mean(axis=0)).T)))
        apart = float(np.median([one.distance(size) for one in placed]))
        rows.append(Row(f"{kind}: place, median", apart, "px", "their mean", usual))
    errors = [error for one in said if (error := one.progress_error) is not None]
    if errors:
        true = [int(match[1]) for one in said if (match := _PROGRESS.search(one.question["answer"]))]
        usual = float(np.median(np.abs(np.array(true) - np.median(true)))) / 100 or 0.01
        rows.append(Row(f"{kind}: progress, median error", float(np.median(errors)), "share", "the middle", usual))
    if kind.startswith("existence-"):
        yes = float(np.mean([plain_words(one.answer) == "yes" for one in said]))
        rows.append(Row(f"{kind}: said yes", yes, "share", "always yes", 1.0))
    return rows


def _words(answer: str) -> str:
    return plain_words(_PROGRESS.sub("", answer))


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
