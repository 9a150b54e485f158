"""Whole episodes on a robot in another process, over DDS in lockstep, beside the same ones in process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from vla import assets
from vla.bench.dds import DOMAIN
from vla.bench.table import Row, in_points, report
from vla.errors import UserError
from vla.evaluation.console import progress_bar
from vla.evaluation.dds_rollout import dds_episode
from vla.evaluation.paired import paired_difference
from vla.evaluation.pool import Job, play_all
from vla.evaluation.setup import Setup
from vla.policies import device_of, load_policy
from vla.processes import terminated_as_interrupted
from vla.robots.dds_bus import use_loopback
from vla.robots.gym_sim import find_environment
from vla.spec import RobotSpec

PATIENCE_S = 60.0


def bench_episodes(policy: str, env: str, episodes: int, seed: int, device: str = "cpu") -> dict[str, Any]:
    """Success of `policy` on the scenes from `seed` on, each played over DDS and in process, and whether the two are
    the same; returns the benchmark document, with the outcomes in seed order. UserError if `env` has no topics."""
    use_loopback()
    spec = RobotSpec.load(assets.find("robot", find_environment(env).robot))
    if not spec.ros:
        raise UserError(f"bench: the robot of {env} has no ros section, which says its topics")
    loaded = load_policy(policy, robot=spec, device=device)
    jobs = [Job(index, seed + index) for index in range(episodes)]
    ours: list[bool] = []
    theirs: list[bool] = []
    steps: list[bool] = []
    with simulated(env), progress_bar("over DDS", episodes) as show:
        for here in play_all(Setup(policy, env), jobs, 1, loaded):
            there = dds_episode(loaded, spec, seed=here.seed, domain=DOMAIN, patience=PATIENCE_S)
            ours.append(bool(there.success))
            theirs.append(here.success)
            steps.append(there.steps == here.steps)
            show(replace(here, success=ours[-1]))
    difference = vars(paired_difference(ours, theirs))
    rows = [Row("success", 100 * sum(ours) / episodes, "%", "in process", 100 * sum(theirs) / episodes)]
    document = report(f"{env} over DDS in lockstep, {episodes} scenes from seed {seed}", rows)
    print(f"over DDS minus in process: {in_points(difference)} points; {sum(steps)} of {episodes} as long to the step")
    found = {"difference": difference, "outcomes": ours, "in_process": theirs, "as_long": steps}
    return document | {"device": device_of(policy, device)} | found


@contextmanager
def simulated(env: str) -> Iterator[None]:
    """`vla sim --dds` in a process of its own, which ends with this one; what it says goes nowhere."""
    command = [sys.executable, "-m", "vla.cli", "sim", "--dds", "--loopback", "--lockstep"]
    with terminated_as_interrupted():
        process = subprocess.Popen([*command, "--env", env, "--domain", str(DOMAIN)], stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait()
