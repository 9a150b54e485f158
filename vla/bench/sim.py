"""How fast the tabletop steps on one core with both cameras, beside the same scene with MuJoCo's default quality."""

import os
import time
from typing import Any

import gymnasium
import numpy as np

import gym_tabletop  # noqa: F401  registers the environment
from vla.bench.table import Row, report

STEPS, REPEATS = 200, 5


def bench_sim() -> dict[str, Any]:
    """Steps per second, the median of five runs taken in turn; returns the benchmark document."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        ours, peer = (gymnasium.make("gym_tabletop/Tabletop-v0", quality=quality) for quality in ("fast", "high"))
        pairs = [(_rate(ours, STEPS, run), _rate(peer, STEPS // 10, run)) for run in range(REPEATS)]
        ours.close()
        peer.close()
    finally:
        os.sched_setaffinity(0, cores)
    fast, stock = np.median(pairs, axis=0)
    row = Row("tabletop, two cameras 96x96, one core", fast, "steps/s", "same scene, MuJoCo's default rendering", stock)
    return report("Simulation", [row])


def _rate(env: gymnasium.Env[Any, Any], steps: int, seed: int) -> float:
    env.reset(seed=seed)
    env.action_space.seed(seed)
    env.step(env.action_space.sample())
    begin = time.perf_counter()
    for _ in range(steps):
        env.step(env.action_space.sample())
    return steps / (time.perf_counter() - begin)
