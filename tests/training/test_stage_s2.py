"""The words stage: what it asks, what it holds out, and that it learns; on a tiny set of coloured squares."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vla import assets
from vla.data.cache import VERSION, FrameCache
from vla.data.stills import StillScenes
from vla.s2.places import place_words
from vla.s2.small import SmallShape
from vla.s2.system import SlowConfig, SlowSystem
from vla.training.loop import LoopConfig, fit
from vla.training.stage_s2 import WordsConfig, WordsStage
from vla.training.still_batches import ask_long, ask_short, frame_questions

COLOURS = {"red cube": (220, 30, 30), "blue cube": (30, 30, 220)}
SHAPE = SmallShape(image_size=32, channels=(16, 16, 32, 32), width=32, layers=1, heads=2, mlp=48)
CONFIG = WordsConfig(images=8, questions=3, captions=2, held_out=100)


def write_scenes(folder: Path, count: int = 40) -> StillScenes:
    """Two squares of 8 pixels, each on one cell of a 4 x 4 grid, in the layout that `vla.data.stills` reads."""
    rng = np.random.default_rng(0)
    front = np.full((count, 32, 32, 3), 90, np.uint8)
    cells = np.zeros((count, 4, 4), np.uint8)
    objects = np.zeros((count, 2, 3), np.float32)
    lines = []
    for i in range(count):
        questions = []
        for c, (cell, (name, colour)) in enumerate(zip(rng.choice(16, 2, False), COLOURS.items(), strict=True)):
            row, column = divmod(int(cell), 4)
            front[i, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = colour
            cells[i, row, column] = c + 1
            u, v = (column + 0.5) / 4, (row + 0.5) / 4
            objects[i, c] = (1, u, v)
            words = f"the {name} {place_words(u, v)}"
            known = {"target": [u, v], "goal": [1 - u, v], "family": c}
            questions.append({"kind": "instruction", "prompt": f"push the {name}", "answer": words, **known})
            nowhere = {"target": None, "goal": None, "family": -1}
            questions.append({"kind": "existence", "prompt": f"is there a {name}?", "answer": "yes", **nowhere})
        listed = ", ".join(question["answer"] for question in questions if question["kind"] == "instruction")
        questions.append({"kind": "caption", "prompt": "what is where?", "answer": listed, **nowhere})
        lines.append(json.dumps({"questions": questions}) + "\n")
    folder.mkdir(exist_ok=True)
    for name, array in {"front": front, "cells": cells, "objects": objects}.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "lines.npy", np.cumsum([0, *map(len, lines)]).astype(np.int64))
    (folder / "words.jsonl").write_text("".join(lines))
    meta = {"version": 1, "seed": 0, "classes": list(COLOURS), "families": ["push"], "size": 32, "count": count}
    (folder / "meta.json").write_text(json.dumps(meta))
    return StillScenes(folder)


@pytest.fixture
def scenes(tmp_path):
    return write_scenes(tmp_path / "stills")


def write_cache(folder: Path, count: int = 40) -> FrameCache:
    """Twenty episodes of two frames; every second frame knows no pixels."""
    rng = np.random.default_rng(1)
    pixels = np.full((count, 2), 0.25, np.float32)
    pixels[::2] = np.nan
    arrays = {
        "front": rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
        "state": np.zeros((count, 3), np.float32),
        "action": np.zeros((count, 2), np.float32),
        "episode": np.arange(count, dtype=np.int32) // 2,
        "progress": np.linspace(0, 1, count, dtype=np.float32),
        "target_pixel": pixels,
        "goal_pixel": pixels,
    }
    episodes = [
        {"start": start, "stop": start + 2, "task": "push it", "subtasks": [[0, 1, "reach"], [1, 2, "push on"]]}
        for start in range(0, count, 2)
    ]
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "meta.json").write_text(
        json.dumps({"version": VERSION, "fps": 20, "cameras": ["front"], "episodes": episodes})
    )
    (folder / "stats.json").write_text("{}")
    shutil.copy(assets.find("robot", "tabletop"), folder / "robot_spec.yaml")
    return FrameCache.open(folder)


@pytest.fixture
def cache(tmp_path):
    return write_cache(tmp_path / "cache")


def build(scenes: StillScenes, config: WordsConfig = CONFIG, **kwargs) -> WordsStage:
    return WordsStage(scenes, config, slow=SlowConfig(queries=2), shape=SHAPE, **kwargs)


def equal(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)) if isinstance(a, torch.Tensor) else a == b


def test_a_batch_depends_on_the_step_alone(scenes):
    stage = build(scenes)
    first = stage.batch(5)
    torch.rand(3)
    stage.batch(6)
    assert equal(first, build(scenes).batch(5))
    assert not equal(first, stage.batch(6))


def test_the_last_tenth_of_few_scenes_is_held_out_with_what_else_is_of_the_same_scene(scenes, tmp_path):
    assert build(scenes).trained_scenes == 32  # each 8 may be moments of one scene
    assert build(scenes, replace(CONFIG, held_out=0)).trained_scenes == 40
    assert build(write_scenes(tmp_path / "few", 10), replace(CONFIG, held_out=1)).trained_scenes == 8


def test_what_no_scene_is_held_out_for_is_not_measured(scenes, cache):
    stage = build(scenes, replace(CONFIG, held_out=0, frames=4), caches=[cache])
    assert stage.trained_scenes == 40 and set(stage.evaluate()) == {"frame_target_px", "frame_target_px_p90"} | {
        "frame_goal_px",
        "frame_goal_px_p90",
    }


def test_frames_ask_for_where_to_work_now(cache):
    asked = frame_questions([cache], [(0, 0), (0, 3), (0, 39)])
    assert asked.prompts == ["push it"] * 3 and asked.answers == []
    assert asked.target[0].isnan().all() and asked.target[1].tolist() == [0.25, 0.25]


def test_every_twentieth_episode_is_held_out(scenes, cache):
    stage = build(scenes, replace(CONFIG, frames=4), caches=[cache])
    assert stage.held_out_frames[0].tolist() == [38, 39]
    assert 38 not in stage.frames[0] and len(stage.frames[0]) == 38


def test_it_trains_on_scenes_and_frames_and_leaves_an_s2_that_loads(scenes, cache, tmp_path):
    stage = WordsStage(
        scenes,
        WordsConfig(images=8, questions=3, captions=2, frames=4),
        caches=[cache],
        slow=SlowConfig(queries=2),
        shape=SHAPE,
    )
    out = tmp_path / "run"
    fit(stage, LoopConfig(steps=30, lr=5e-3, warmup=5, log_every=5, eval_every=30), out)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    train = [line for line in log if line["kind"] == "train"]
    assert train[-1]["loss"] < 0.7 * train[0]["loss"]
    assert train[-1]["cells"] < 0.5 * train[0]["cells"]
    results = log[-1]
    assert {"target_px", "goal_px", "things_px", "spoken_instruction_px", "answer_existence", "frame_target_px"} <= set(
        results
    )
    s2 = SlowSystem.from_pretrained(out / "s2")
    images = torch.from_numpy(scenes.front[:2].copy())[:, None]
    stage.model.eval()
    expected = stage.model.s2(images, ["push the red cube"] * 2).latents
    torch.testing.assert_close(s2(images, ["push the red cube"] * 2).latents, expected, atol=1e-5, rtol=0)


def test_long_answers_are_asked_apart():
    """One caption among short answers would pad all of them to its length."""
    questions = [
        {"kind": "instruction", "answer": "the red cube <loc01><loc02>"},
        {"kind": "relation", "answer": "a red cube, a blue ball, a green ball, a red ball and a blue cube"},
        {"kind": "caption", "answer": "a red cube"},
    ]
    rng = np.random.default_rng(0)
    assert {q["kind"] for q in ask_short(questions, 8, rng)} == {"instruction"}
    assert {ask_long(questions, rng)[0]["kind"] for _ in range(20)} == {"relation", "caption"}
