"""`vla eval --dataset`: what a policy would have done, beside what was done in episodes it was not trained on.

At frames of recorded episodes S2 sees the picture of some time ago, S1 the current one, and its chunk is compared with
the actions that followed. It tells whether a policy has learned the motion, not whether it succeeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vla import assets
from vla.data.cache import FrameCache, build_cache
from vla.data.lerobot_v3 import DatasetV3
from vla.data.slices import HELD_OUT, chunk_rows, is_held_out, look_back
from vla.data.workers import progress_bar
from vla.errors import UserError
from vla.evaluation.provenance import command_line, git_hash
from vla.policies import check_policy, is_peer, is_remote, load_policy
from vla.runtime.pilot import Policy
from vla.s2.thought import Thought
from vla.spec import dimension_names

AGES = (0.0, 0.5, 1.0, 2.0, float("nan"))
"""Seconds; NaN: no thought yet."""
FRAMES = 200
"""Asked about, evenly over the episodes."""
HOLD, MEAN = "hold still", "mean action"


@dataclass(frozen=True)
class Held:
    """Frames to ask about, the actions that followed each, and which of these are within the episode."""

    frames: Int[np.ndarray, " n"]
    starts: Int[np.ndarray, " n"]
    actions: Float[np.ndarray, "n H A"]
    valid: Bool[np.ndarray, "n H"]

    def error(self, said: Float[np.ndarray, "n H A"]) -> Float[np.ndarray, " A"]:
        """Mean absolute error of each entry, over all actions of all chunks."""
        return np.abs(said - self.actions)[self.valid].mean(0)


def evaluate_offline(policy: str, dataset: Path, all_episodes: bool = False, device: str = "cpu") -> dict[str, Any]:
    """Print the table and return the document. all_episodes: also those that training takes.

    Raises UserError if the policy is for another robot or LeRobot's, LeRobot trained it and held out none, no
    episode is held out, or values are not finite.
    """
    if is_peer(policy):
        raise UserError(f"policy {policy} is LeRobot's: --dataset asks ours only")
    check_policy(policy)
    if not all_episodes and not is_remote(policy) and (assets.find("policy", policy) / "train_config.json").is_file():
        raise UserError(
            f"policy {policy} was trained by LeRobot, which does not hold out every {HELD_OUT}th episode: give "
            "--all-episodes, with a dataset that it has not seen"
        )
    cache = build_cache(dataset)
    tandem = load_policy(policy, robot=cache.spec, device=device)
    if not (np.isfinite(cache.action).all() and np.isfinite(cache.state).all()):
        raise UserError(f"dataset {dataset}: states or actions are not finite; vla data doctor says where")
    asked = np.ones(len(cache), bool) if all_episodes else is_held_out(cache.episode)
    held = _held(cache, asked, tandem.config.fast.horizon)
    known = np.asarray(cache.action)[slice(None) if all_episodes else ~asked]
    before = np.asarray(cache.action)[held.frames - 1]
    errors = {
        HOLD: held.error(np.stack([tandem.spec.hold_action(last) for last in before])[:, None]),
        MEAN: held.error(known.mean(0)),
    }
    ages = [age for age in AGES if not age > tandem.config.fast.max_age]
    with progress_bar("asked", len(ages) * len(held.frames)) as advance:
        for age in ages:
            said = []
            for chunk in _chunks(tandem, cache, held, age):
                said.append(chunk)
                advance(1)
            errors[_age_name(age)] = held.error(np.stack(said))
    fields = tandem.spec.action.fields
    document = {
        "policy": policy,
        "dataset": str(dataset),
        "episodes": len(np.unique(cache.episode[held.frames])),
        "frames": len(held.frames),
        "horizon": tandem.config.fast.horizon,
        "names": DatasetV3(dataset).dimension_names("action") or dimension_names(fields),
        "units": [field.unit for field in fields for _ in range(field.size)],
        "error": {name: error.tolist() for name, error in errors.items()},
        "of_hold_still": _of_hold_still(errors, known.std(0)),
        "git": git_hash(),
        "command": command_line(),
    }
    _print(document, cache.fps)
    return document


def _held(cache: FrameCache, asked: Bool[np.ndarray, " N"], horizon: int) -> Held:
    lengths = [len(episode) for episode in cache.episodes]
    starts = np.repeat([episode.start for episode in cache.episodes], lengths)
    stops = np.repeat([episode.stop for episode in cache.episodes], lengths)
    # Whoever holds still repeats the command before: an episode's first frame has none.
    frames = np.flatnonzero(asked & (np.arange(len(cache)) > starts))
    if not len(frames):
        raise UserError(
            f"dataset {cache.folder.parent}: no episode is held out: every {HELD_OUT}th is; record more, or give "
            "--all-episodes for a dataset that was not trained on"
        )
    frames = frames[np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int)]
    rows, valid = chunk_rows(frames, stops[frames], horizon)
    return Held(frames, starts[frames], np.asarray(cache.action)[rows], valid)


def _chunks(policy: Policy, cache: FrameCache, held: Held, age: float) -> Iterator[np.ndarray]:
    """Of every frame, as on a robot: with a thought of the frame `age` seconds ago, or the episode's first."""
    nothing = np.zeros((0, policy.spec.action_size), np.float32)
    sources, ages = look_back(held.frames, held.starts, np.full(len(held.frames), age), cache.fps)
    for frame, source, old in zip(held.frames, sources, ages, strict=True):
        thought: Thought | None = None
        if not np.isnan(old):
            task = next(episode.task for episode in cache.episodes if episode.start <= source < episode.stop)
            thought = policy.think(_images(cache, source), task, -float(old))
        yield policy.act(_images(cache, frame), cache.state[frame], thought, 0.0, nothing)


def _images(cache: FrameCache, frame: int) -> dict[str, np.ndarray]:
    return {name: pictures[frame] for name, pictures in cache.images.items()}


def _of_hold_still(errors: dict[str, np.ndarray], spread: np.ndarray) -> dict[str, float]:
    """Each error as a share of that of holding still, entries weighed by their spread; constant ones do not count."""
    moving = spread > 1e-6
    total = {name: float((error[moving] / spread[moving]).sum()) for name, error in errors.items()}
    return {name: value / max(total[HOLD], 1e-9) for name, value in total.items()}


def _age_name(age: float) -> str:
    return "no thought" if np.isnan(age) else f"{age:g} s"


def _print(document: dict[str, Any], fps: float) -> None:
    seconds = document["horizon"] / fps
    print(
        f"{document['frames']} frames, episodes: {document['episodes']}; mean absolute error over the "
        f"{document['horizon']} actions ({seconds:.2g} s) from each on, by age of the thought"
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("action")
    table.add_column("unit")
    for name in document["error"]:
        table.add_column(name, justify="right")
    for i, (name, unit) in enumerate(zip(document["names"], document["units"], strict=True)):
        table.add_row(name, unit, *(f"{error[i]:.3g}" for error in document["error"].values()))
    table.add_section()
    shares = document["of_hold_still"].values()
    table.add_row("all, of holding still", "", *(f"{100 * share:.0f} %" for share in shares))
    Console(width=110).print(table)
