import json
import sys
from pathlib import Path

import numpy as np
import pytest

from vla.data.cache import FrameCache
from vla.s2.places import place_words

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "s2")]  # for dot_world.py and tiny_vlms.py

from dot_world import SIZE, TASKS, write_episodes  # noqa: E402


@pytest.fixture(scope="module")
def episodes(tmp_path_factory) -> Path:
    return write_episodes(tmp_path_factory.mktemp("data") / "episodes", episodes=20, length=6).folder


@pytest.fixture(scope="module")
def stills(tmp_path_factory, episodes) -> Path:
    """Still scenes of the dot world, in the layout that `vla.data.stills` reads."""
    folder, cache, count = tmp_path_factory.mktemp("data") / "stills", FrameCache.open(episodes), 20
    folder.mkdir()
    lines = []
    for i in range(count):
        u, v = (float(x) for x in cache.target_pixel[6 * i])
        known = {"target": [u, v], "goal": None, "family": 0}
        words = f"the square {place_words(u, v)}"
        questions = [
            {"kind": "instruction", "prompt": TASKS[0], "answer": words, **known},
            {"kind": "caption", "prompt": "what is where?", "answer": words, **known},
        ]
        lines.append(json.dumps({"questions": questions}) + "\n")
    np.save(folder / "front.npy", cache.front[::6][:count])
    np.save(folder / "cells.npy", np.ones((count, 4, 4), np.uint8))
    np.save(folder / "objects.npy", np.ones((count, 1, 3), np.float32) / 2)
    np.save(folder / "lines.npy", np.cumsum([0, *map(len, lines)]).astype(np.int64))
    (folder / "words.jsonl").write_text("".join(lines))
    meta = {"version": 1, "seed": 0, "classes": ["square"], "families": ["go"], "size": SIZE, "count": count}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder
