"""Episodes in wall-clock time: the scenes of `vla eval`, on a robot that does not wait for the policy."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vla.evaluation import instructions
from vla.evaluation.episode import EpisodeResult, choose, count_unparaphrased, replaced
from vla.evaluation.pool import Job
from vla.evaluation.realtime import RealTimeRun, RunResult, run_in_real_time
from vla.evaluation.setup import Setup
from vla.robots.gym_sim import make_robot
from vla.robots.sim_wires import World
from vla.runtime.supervisor import RunSettings


def play(setup: Setup, jobs: Sequence[Job]) -> Generator[EpisodeResult]:
    """Play every job, one after the other, each with processes of its own; yields results as they come.

    An episode lasts as long as on simulated time: the steps of its scene, at the robot's rate, in the robot's own time.
    Raises UserError as `run_in_real_time` does.
    """
    how = RunSettings()
    if setup.play.timing.s2_period is not None:
        how = replace(how, s2_period=setup.play.timing.s2_period)
    with make_robot(setup.env, setup.task, setup.split, render=False) as twin:
        for job in jobs:
            yield _play(setup, job, twin, how)


def _play(setup: Setup, job: Job, twin: Any, how: RunSettings) -> EpisodeResult:
    """twin: the scene in this process, asked what it wants and how long it may take; nothing moves in it."""
    twin.reset(job.seed)
    given = twin.instruction
    wanted = job.instruction or choose(twin, setup.play.choice, job.seed, job.index)
    if wanted != given:
        twin.set_instruction(wanted)
    world = World(setup.env, job.seed, setup.task, setup.split, None if wanted == given else wanted)
    rate = twin.spec.rate_hz
    with tempfile.TemporaryDirectory(prefix="vla-episode-") as folder:
        run = RealTimeRun(setup.policy, world, twin.max_steps / rate, Path(folder), how=how, device=setup.device)
        result = run_in_real_time(run)
    telemetry = result.telemetry
    return EpisodeResult(
        index=job.index,
        seed=job.seed,
        family=twin.family,
        split=instructions.split_of(result.instruction, twin.instructions()),
        instruction=result.instruction,
        original=replaced(result.instruction, wanted, given, setup.play.choice),
        success=result.solved_s is not None,
        steps=math.ceil(round(result.lasted_s * rate, 6)),
        words=None,
        s1_ms=list(telemetry.s1_ms),
        s2_ms=list(telemetry.s2_ms),
        s2_age_s=list(telemetry.ages),
        counts=_counts(result) | count_unparaphrased(twin, setup.play.choice),
        limited=_limited(result),
        delays={
            "s2_delay": list(telemetry.s2_delays),
            "s2_period": np.diff(telemetry.s2_times).tolist(),
            "s1_delay": list(telemetry.s1_delays),
        },
    )


def _counts(result: RunResult) -> dict[str, int]:
    """slipped_ms: for so long the robot's own time stood still, because the machine was too busy for it. stopped:
    whether the safety gate had stopped the robot in the end.
    """
    summary = result.telemetry.summary()
    counts = {name: int(summary[name]) for name in ("late_chunks", "refused_chunks", "missed", "starvations")}
    counts |= {"restarts": len(result.telemetry.events), "stopped": int(summary["stopped"] is not None)}
    return counts | {"slipped_ms": round(1e3 * result.body.slipped)}


def _limited(result: RunResult) -> dict[str, int]:
    summary = result.telemetry.summary()
    return {rule: count for rule, count in summary["clamps"].items() if rule != summary["stopped"]}


def measured(results: Sequence[EpisodeResult]) -> dict[str, Any]:
    """What the JSON document says of real time. measured: as `measured_timing`. limited: how many commands each rule of
    the safety gate changed, in all episodes, the most frequent first.
    """
    limited: Counter[str] = sum((Counter(result.limited) for result in results), Counter())
    return {"measured": measured_timing(results), "limited": dict(limited.most_common())}


def measured_timing(results: Sequence[EpisodeResult]) -> dict[str, float | None]:
    """The latencies to charge on simulated time for the same, from the capture of the images on.

    s2_delay, s2_period: seconds, medians. s1_delay: the control steps that S1's chunks were told to be committed to, on
    average. None where nothing was measured.
    """

    def over_all(key: str, middle: Callable[[list[float]], Any]) -> float | None:
        values = [value for result in results for value in result.delays.get(key, ())]
        return float(middle(values)) if values else None

    steps = over_all("s1_delay", np.mean)
    return {
        "s2_delay": over_all("s2_delay", np.median),
        "s2_period": over_all("s2_period", np.median),
        "s1_delay": None if steps is None else round(steps),
    }


def print_measured(document: Mapping[str, Any]) -> None:
    """What was measured, and the command that plays the same episodes at the same latencies on simulated time."""
    if intervened := _intervened(document):
        print(f"the safety gate {intervened}")
    measured, slipped = document["measured"], document["counts"]["slipped_ms"]
    if None in measured.values():
        print("in real time: S1 or S2 did nothing to measure")
        return
    options = document["options"]
    charged = f"--s2-delay {measured['s2_delay']:.3g} --s2-period {measured['s2_period']:.3g}"
    asked = f"--policy {document['policy']} --env {document['env']} --episodes {document['episodes']}"
    asked += f" --seed {document['seed']} --task {options['task']} --split {options['split']}"
    print("on simulated time, at the same latencies, paired with this if it was written as --json FILE:")
    if options["perturb"]:
        asked += f" --perturb {' '.join(options['perturb'])}"
    print(f"  vla eval {asked} {charged} --s1-delay {measured['s1_delay']} --compare FILE")
    if slipped:
        print(f"the machine was too busy: the robot's time stood still for {slipped / 1e3:.1f} s")


def _intervened(document: Mapping[str, Any]) -> str:
    """What the safety gate did, by kinds of rules, if anything."""
    kinds: Counter[str] = Counter()
    for rule, count in document["limited"].items():
        kinds[rule.partition(".")[0]] += count
    limited = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    told = [f"limited commands ({limited})"] if limited else []
    if stopped := document["counts"]["stopped"]:
        told.append(f"had stopped the robot at the end of {stopped} of {document['episodes']} episodes")
    return " and ".join(told)
