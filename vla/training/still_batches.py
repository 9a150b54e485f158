"""Batches for S2: questions about still scenes and about frames of episodes, with the labels that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from vla.data.cache import FrameCache
from vla.data.stills import StillScenes
from vla.s2.places import plain_words

KIND_WEIGHTS = {
    "instruction": 0.42,
    "subtask": 0.06,
    "pointing": 0.06,
    "attribute": 0.09,
    "existence": 0.08,
    "count": 0.12,
    "relation": 0.17,
}
"""How often a short question of each kind is asked of a scene."""

LONG_ANSWER = 14
"""Words from which an answer is long, a place counting as one. Long ones are asked apart: they would pad all others."""


@dataclass(frozen=True)
class Questions:
    """Some images and what is asked about them: question i is about image i // (questions / images).

    images: uint8 (B, V, H, W, 3). answers: one each, or none at all.
    target, goal: (Q, 2), (u, v) in [0, 1], NaN if unknown. family: (Q,), -1 if none.
    thing: (Q,) class of what an instruction is about, -1 if none.
    cells: int64 (B, G, G), objects: float32 (B, C, 3) present, u, v; None where there are no such labels.
    """

    images: Tensor
    prompts: list[str]
    answers: list[str]
    target: Tensor
    goal: Tensor
    family: Tensor
    thing: Tensor
    cells: Tensor | None = None
    objects: Tensor | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


def scene_questions(
    scenes: StillScenes, indices: Sequence[int] | NDArray[np.integer], asked: Sequence[Sequence[dict[str, Any]]]
) -> Questions:
    """The questions `asked` about scenes `indices`, the same number about each."""
    rows = np.asarray(indices)
    flat = [question for questions in asked for question in questions]
    nowhere = (np.nan, np.nan)
    return Questions(
        images=torch.from_numpy(np.stack([scenes.front[i] for i in rows])[:, None]),
        prompts=[q["prompt"] for q in flat],
        answers=[q["answer"] for q in flat],
        target=torch.tensor([q["target"] or nowhere for q in flat], dtype=torch.float32),
        goal=torch.tensor([q["goal"] or nowhere for q in flat], dtype=torch.float32),
        family=torch.tensor([q["family"] for q in flat]),
        thing=torch.tensor([_named(q, scenes.classes) for q in flat]),
        cells=torch.from_numpy(np.stack([scenes.cells[i] for i in rows]).astype(np.int64)),
        objects=torch.from_numpy(np.stack([scenes.objects[i] for i in rows])),
    )


def ask_short(questions: list[dict[str, Any]], count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """`count` short questions of one scene, kinds by KIND_WEIGHTS, none twice unless there are too few."""
    short = [q for q in questions if q["kind"] in KIND_WEIGHTS and not _is_long(q)]
    kinds = [question["kind"] for question in short]
    weights = np.array([KIND_WEIGHTS[kind] / kinds.count(kind) for kind in kinds])
    again = len(short) < count
    return [short[i] for i in rng.choice(len(short), count, replace=again, p=weights / weights.sum())]


def ask_long(questions: list[dict[str, Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
    """One question of a scene with a long answer: a caption, or all that is to one side."""
    long = [question for question in questions if question["kind"] == "caption" or _is_long(question)]
    return [long[rng.integers(len(long))]]


def _named(question: dict[str, Any], classes: Sequence[str]) -> int:
    """An instruction is answered with the name of its target."""
    name = plain_words(question["answer"]).removeprefix("the ")
    return classes.index(name) if question["kind"] == "instruction" and name in classes else -1


def _is_long(question: dict[str, Any]) -> bool:
    return len(question["answer"].split()) >= LONG_ANSWER


def frame_questions(caches: Sequence[FrameCache], frames: Sequence[tuple[int, int]]) -> Questions:
    """The task of frames (cache, row) as prompts, where to work now as labels; no answers: stills teach the words.

    The caches must have a camera "front".
    """
    picked = [(caches[which], row) for which, row in frames]
    return Questions(
        images=torch.from_numpy(np.stack([cache.front[row] for cache, row in picked])[:, None]),
        prompts=[cache.episodes[int(cache.episode[row])].task for cache, row in picked],
        answers=[],
        target=torch.from_numpy(np.stack([cache.target_pixel[row] for cache, row in picked]).astype(np.float32)),
        goal=torch.from_numpy(np.stack([cache.goal_pixel[row] for cache, row in picked]).astype(np.float32)),
        family=torch.full((len(picked),), -1),
        thing=torch.full((len(picked),), -1),
    )


def jitter(images: UInt8[Tensor, "B V H W 3"], rng: np.random.Generator) -> UInt8[Tensor, "B V H W 3"]:
    """Brightness, contrast, a slight tint and sensor noise, another for every image. No flip: left would be right."""
    shape = (images.shape[0], 1, 1, 1, 1)
    contrast = torch.from_numpy(rng.uniform(0.8, 1.2, shape).astype(np.float32))
    brightness = torch.from_numpy(rng.uniform(-20, 20, shape).astype(np.float32))
    tint = torch.from_numpy(rng.uniform(0.92, 1.08, (*shape[:-1], 3)).astype(np.float32))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    noise = torch.randn(images.shape, generator=generator) * float(rng.uniform(0, 5))
    pixels = (images.float() - 128) * contrast + 128 + brightness
    return (pixels * tint + noise).clamp(0, 255).to(torch.uint8)
