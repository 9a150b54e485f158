"""Stage one: S2 learns to see and to read, from still scenes with words and, if given, from frames of episodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vla.data.cache import FrameCache
from vla.data.slices import is_held_out
from vla.data.stills import MOMENTS, StillScenes
from vla.s2.labels import LabelConfig, LabelHeads
from vla.s2.places import places_in, plain_words
from vla.s2.small import SmallShape, small_slow_system
from vla.s2.system import SlowConfig, SlowSystem
from vla.training.still_batches import (
    KIND_WEIGHTS,
    Questions,
    ask_long,
    ask_short,
    frame_questions,
    jitter,
    scene_questions,
)

SHOWN = {"captions": ("words",), "frames": ("place",)}
"""Losses of further images that are worth a line of the log."""


@dataclass(frozen=True)
class WordsConfig:
    """images, questions: scenes a step and questions about each. captions, frames: further images a step, asked
    for what takes many words, and frames of episodes, where the latents must say what is to be used now.

    held_out: scenes at the end of the dataset that are never trained on (at most a tenth of it, and the moments before
    that are of the first one's scene); without any, S2's pointing and answers are not measured.
    Weights of the losses follow; the word loss of the scenes has weight 1. place_words: of a place token within it.
    """

    images: int = 32
    questions: int = 4
    captions: int = 4
    frames: int = 0
    held_out: int = 1000
    caption_weight: float = 0.3
    frame_weight: float = 0.5
    place_words: float = 0.3
    cells: float = 1.0
    presence: float = 2.0
    things: float = 4.0
    place: float = 4.0
    place_cell: float = 0.3
    family: float = 0.2
    named: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"images": 1, "questions": 1, "captions": 0, "frames": 0, "held_out": 0}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least {minimum}")


class WordsModel(nn.Module):
    """S2 with the training-only heads: what the checkpoint of this stage holds."""

    def __init__(self, s2: SlowSystem, heads: LabelHeads) -> None:
        super().__init__()
        self.s2 = s2
        self.heads = heads


class WordsStage:
    """A Stage of `vla.training.loop`.

    scenes: still scenes. caches: opened frame caches of episodes, used while `config.frames` is above 0.
    s2: to go on from; None starts anew, with a tokenizer of the sentences in the data, those of `others` too.
    """

    def __init__(
        self,
        scenes: StillScenes,
        config: WordsConfig | None = None,
        caches: Sequence[FrameCache] = (),
        s2: SlowSystem | None = None,
        slow: SlowConfig | None = None,
        shape: SmallShape | None = None,
        others: Sequence[FrameCache] = (),
    ) -> None:
        self.scenes = scenes
        self.config = config = config or WordsConfig()
        self.caches = list(caches)
        torch.manual_seed(config.seed)
        told = self.caches if config.frames else []
        s2 = s2 or small_slow_system(sentences(scenes, [*told, *others]), slow, shape)
        families = max(LabelConfig.families, len(scenes.families))
        labels = LabelConfig(classes=len(scenes.classes), grid=scenes.cells.shape[1], families=families)
        heads = LabelHeads(labels, s2.latent_shape, s2.map_widths)
        self.model: WordsModel = WordsModel(s2, heads)
        held_out = min(config.held_out, len(scenes) // 10)
        whole = (len(scenes) - held_out) // MOMENTS * MOMENTS  # other moments of a scene are held out with it
        self.trained_scenes = whole if held_out and whole else len(scenes) - held_out
        # Whole episodes are held out, one in twenty.
        self.frames = [np.flatnonzero(~is_held_out(cache.episode)) for cache in self.caches]
        self.held_out_frames = [np.flatnonzero(is_held_out(cache.episode)) for cache in self.caches]

    # --- training ------------------------------------------------------------------------------------------------

    def batch(self, step: int) -> dict[str, dict[str, Any]]:
        config = self.config
        rng = np.random.default_rng((config.seed, step))
        parts = {"scenes": self._asked(rng.integers(self.trained_scenes, size=config.images), rng, config.questions)}
        if config.captions:
            parts["captions"] = self._captioned(rng.integers(self.trained_scenes, size=config.captions), rng)
        if config.frames and self.caches:
            parts["frames"] = frame_questions(self.caches, self._draw_frames(self.frames, config.frames, rng))
        jittered = {name: replace(part, images=jitter(part.images, rng)) for name, part in parts.items()}
        return {name: part.to_dict() for name, part in jittered.items()}

    def loss(self, batch: dict[str, dict[str, Any]]) -> tuple[Tensor, dict[str, Tensor | float]]:
        weights = {"scenes": 1.0, "captions": self.config.caption_weight, "frames": self.config.frame_weight}
        total: Tensor | float = 0.0
        parts: dict[str, Tensor | float] = {}
        for name, questions in batch.items():
            losses = self._losses(Questions(**questions))
            total = total + weights[name] * sum(losses.values())
            shown = losses if name == "scenes" else {f"{name}_{key}": losses[key] for key in SHOWN[name]}
            parts |= {key: value.detach() for key, value in shown.items()}
        assert isinstance(total, Tensor)
        return total, parts

    def _losses(self, asked: Questions) -> dict[str, Tensor]:
        config, heads = self.config, self.model.heads
        out = self.model.s2(asked.images, asked.prompts, asked.answers or None, config.place_words)
        pointed = heads.point_losses(out.latents, asked.target, asked.goal, asked.family, asked.thing)
        losses = {name: getattr(config, name) * loss for name, loss in pointed.items()}
        if out.word_loss is not None:
            losses["words"] = out.word_loss
        if heads.sees and asked.cells is not None and asked.objects is not None:
            assert out.visual is not None
            presence, things = heads.thing_loss(out.visual, asked.objects)
            losses["cells"] = config.cells * heads.cell_loss(out.maps, asked.cells)
            losses["presence"] = config.presence * presence
            losses["things"] = config.things * things
        return losses

    def _asked(self, scenes: np.ndarray, rng: np.random.Generator, count: int) -> Questions:
        return scene_questions(
            self.scenes, scenes, [ask_short(self.scenes.questions(int(i)), count, rng) for i in scenes]
        )

    def _captioned(self, scenes: np.ndarray, rng: np.random.Generator) -> Questions:
        return scene_questions(self.scenes, scenes, [ask_long(self.scenes.questions(int(i)), rng) for i in scenes])

    @staticmethod
    def _draw_frames(frames: list[np.ndarray], count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
        sizes = np.array([len(rows) for rows in frames], dtype=float)
        which = rng.choice(len(frames), count, p=sizes / sizes.sum())
        return [(int(i), int(frames[i][rng.integers(len(frames[i]))])) for i in which]

    def save(self, out: Path) -> None:
        """Write S2 alone, ready for `SlowSystem.from_pretrained(out / "s2")`."""
        self.model.s2.save_pretrained(out / "s2")

    # --- held-out results ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Errors are distances in pixels of the held-out images; the others are shares of right answers."""
        rng = np.random.default_rng(self.config.seed)
        held_out = np.arange(self.trained_scenes, len(self.scenes))
        results = self._pointing(held_out, rng) | self._answers(held_out, rng)
        if self.config.frames and any(len(rows) for rows in self.held_out_frames):
            results |= self._frame_pointing(rng)
        return results

    def _pointing(self, held_out: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
        """What the latents say of one instruction a scene, and what the image tokens say of everything in it."""
        heads, s2 = self.model.heads, self.model.s2
        target, goal, family, thing, things, presence, cells, words = [], [], [], [], [], [], [], []
        size = self.scenes.front.shape[2]
        for rows in _chunks(held_out, 128):
            chosen = [(i, q) for i in rows if (q := self._one(int(i), "instruction", rng))]
            if not chosen:
                continue
            asked = _on(scene_questions(self.scenes, [i for i, _ in chosen], [[q] for _, q in chosen]), s2.device)
            out = s2(asked.images, asked.prompts, asked.answers)
            said = heads.point(out.latents)
            target.append(_distance(said.target, asked.target, size))
            goal.append(_distance(said.goal, asked.goal, size))
            family.append((said.family.argmax(-1) == asked.family)[asked.family >= 0])
            thing.append((said.thing.argmax(-1) == asked.thing)[asked.thing >= 0])
            assert asked.objects is not None and asked.cells is not None
            words.append(out.word_loss.detach().reshape(1))
            if out.visual is None:
                continue
            present = asked.objects[..., 0] > 0.5
            logits, places = heads.find(out.visual)
            things.append(_distance(places[present], asked.objects[..., 1:][present], size))
            presence.append(((logits > 0) == present).flatten())
            cells.append((heads.cell_logits(out.maps)[1].argmax(-1) == asked.cells)[asked.cells > 0])
        if not words:
            return {}
        results = _spread("target_px", target) | _spread("goal_px", goal)
        if heads.sees:
            results |= {**_spread("things_px", things), "presence": _mean(presence), "cells": _mean(cells)}
        return results | {"family": _mean(family), "named": _mean(thing), "word_loss": _mean(words)}

    def _answers(self, held_out: np.ndarray, rng: np.random.Generator, count: int = 128) -> dict[str, float]:
        """Spoken answers: where instructions and pointing questions point, and how many others say the right words.

        Places are rarely right to the last step, so that what counts is the words between them, in order.
        """
        size = self.scenes.front.shape[2]
        results: dict[str, float] = {}
        for kind in ("caption", *KIND_WEIGHTS):
            picked = rng.permutation(held_out)[: count // 3 if kind == "caption" else count]
            chosen = [(i, q) for i in picked if (q := self._one(int(i), kind, rng))]
            if not chosen:
                continue
            asked = scene_questions(self.scenes, [i for i, _ in chosen], [[q] for _, q in chosen])
            spoken = self.model.s2.speak(asked.images, asked.prompts, max_new_tokens=96 if kind == "caption" else 48)
            if kind in ("instruction", "pointing"):
                places = [(places_in(text) or [(np.nan, np.nan)])[0] for text in spoken]
                results |= _spread(f"spoken_{kind}_px", [_distance(torch.tensor(places), asked.target, size)])
            if kind != "pointing":
                words = [[plain_words(text) for text in texts] for texts in (spoken, asked.answers)]
                results[f"answer_{kind}"] = float(np.mean([a == b for a, b in zip(*words, strict=True)]))
        return results

    def _frame_pointing(self, rng: np.random.Generator) -> dict[str, float]:
        target, goal = [], []
        for _ in range(4):
            frames = [(which, rows) for which, rows in enumerate(self.held_out_frames) if len(rows)]
            drawn = [(frames[i][0], int(rng.choice(frames[i][1]))) for i in rng.integers(len(frames), size=128)]
            asked = _on(frame_questions(self.caches, drawn), self.model.s2.device)
            said = self.model.heads.point(self.model.s2(asked.images, asked.prompts).latents)
            size = asked.images.shape[3]
            target.append(_distance(said.target, asked.target, size))
            goal.append(_distance(said.goal, asked.goal, size))
        return {**_spread("frame_target_px", target), **_spread("frame_goal_px", goal)}

    def _one(self, scene: int, kind: str, rng: np.random.Generator) -> dict[str, Any] | None:
        of_kind = [question for question in self.scenes.questions(scene) if question["kind"] == kind]
        return of_kind[rng.integers(len(of_kind))] if of_kind else None


def sentences(scenes: StillScenes, caches: Sequence[FrameCache], count: int = 3000) -> list[str]:
    """Sentences of the data for the tokenizer: those of `count` scenes, evenly spread, and of all episodes."""
    found: dict[str, None] = {"percent": None}
    for index in np.linspace(0, len(scenes) - 1, min(count, len(scenes))).astype(int):
        for question in scenes.questions(int(index)):
            found[question["prompt"]] = found[question["answer"]] = None
    for cache in caches:
        for episode in cache.episodes:
            found[episode.task] = None
            found |= {text: None for _, _, text in episode.subtasks}
    return list(found)


def _chunks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _on(asked: Questions, device: torch.device) -> Questions:
    moved: dict[str, Any] = {name: value.to(device) for name, value in vars(asked).items() if isinstance(value, Tensor)}
    return replace(asked, **moved)


def _distance(said: Tensor, truth: Tensor, size: int) -> Tensor:
    """Distances in pixels where the truth is known; what was not said at all counts as the whole image."""
    known = truth.isfinite().all(-1)
    apart = (said[known].float() - truth[known]).norm(dim=-1) * size
    return torch.where(apart.isfinite(), apart, torch.full_like(apart, float(size)))


def _spread(name: str, distances: list[Tensor]) -> dict[str, float]:
    """Median and 90th percentile."""
    every = torch.cat(distances)
    if not len(every):
        return {}
    median, high = torch.quantile(every, torch.tensor([0.5, 0.9], device=every.device)).tolist()
    return {name: median, f"{name}_p90": high}


def _mean(values: list[Tensor]) -> float:
    every = torch.cat(values)
    return float(every.float().mean()) if len(every) else float("nan")
