"""Whether a suite's experts do in our adapter what they do in the benchmark's own loop, on the same seeds."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vla import assets
from vla.bench.table import Row, report
from vla.data.attempts import expert_maker
from vla.data.staging import Span
from vla.data.workers import Report, progress_bar, run_spans
from vla.errors import UserError
from vla.robots.benchmarks import METAWORLD_MT50
from vla.robots.gym_sim import GymRobot, find_environment

HORIZON = 500


@dataclass(frozen=True)
class ExpertCheck:
    """tasks of environment `env`, `episodes` each, from `seed` on."""

    env: str
    tasks: tuple[str, ...]
    episodes: int
    seed: int


def expert_tasks(env: str, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """The tasks that names and groups mean, all by default; UserError for an unknown one."""
    entry = find_environment(env)
    for name in wanted:
        find_environment(env, name)
    return tuple(dict.fromkeys(t for name in wanted for t in entry.groups.get(name, (name,)))) or entry.families


def bench_experts(check: ExpertCheck, workers: int, out: Path) -> dict[str, Any]:
    """Success of the experts, task by task; returns the benchmark document, with every outcome in "tasks".

    out: keeps every task that is done, so that the check can be made in parts or go on after an interruption, and the
    table of those asked for as `experts.md`. Raises UserError for an environment that has no loop of its own to compare
    with, or if `out` holds another check.
    """
    if set(check.tasks) - set(METAWORLD_MT50):
        raise UserError(f"bench suites --experts: {check.env} has no experts of its own; there are: metaworld")
    assets.check_folder_writable(out, "--out")
    found = {task: known for task in check.tasks if (known := _known(check, out, task))}
    left = replace(check, tasks=tuple(task for task in check.tasks if task not in found))
    with progress_bar("experts", len(check.tasks), len(found)) as advance:

        def note(result: tuple[str, list[bool], list[bool]]) -> None:
            task, ours, theirs = result
            found[task] = {"ours": ours, "theirs": theirs}
            _keep(check, out, task, found[task])
            advance(1)

        spans = [Span(i, i + 1) for i in range(len(left.tasks))]
        run_spans(_ExpertWorker, left, spans, workers, note)
    tasks = {task: found[task] for task in check.tasks}
    sums = {task: (sum(both["ours"]), sum(both["theirs"])) for task, both in tasks.items()}
    peer = "own loop"
    share = 1 / check.episodes
    rows = [Row(task, share * ours, "success", peer, share * theirs) for task, (ours, theirs) in sums.items()]
    ours, theirs = np.sum(list(sums.values()), axis=0) / (check.episodes * len(tasks))
    rows.append(Row("all", float(ours), "success", peer, float(theirs)))
    (out / "experts.md").write_text(_page(check, tasks), encoding="utf-8")
    differing = [task for task, both in tasks.items() if both["ours"] != both["theirs"]]
    document = report(f"Experts of {check.env}, {check.episodes} episodes a task", rows)
    print("every episode ends alike in both loops" if not differing else f"episodes differ in: {', '.join(differing)}")
    return document | {"seed": check.seed, "tasks": tasks}


def _known(check: ExpertCheck, out: Path, task: str) -> dict[str, list[bool]] | None:
    """The outcomes of a task that is done, if it is."""
    file = out / "points" / f"{task}.json"
    if not file.is_file():
        return None
    known = json.loads(file.read_text(encoding="utf-8"))
    if known["asked"] != [check.episodes, check.seed]:
        raise UserError(f"bench suites: {file} is of other episodes; choose another --out")
    return {"ours": known["ours"], "theirs": known["theirs"]}


def _keep(check: ExpertCheck, out: Path, task: str, outcomes: dict[str, list[bool]]) -> None:
    file = out / "points" / f"{task}.json"
    assets.write_file(file, json.dumps({"asked": [check.episodes, check.seed], **outcomes}), "bench")


def _page(check: ExpertCheck, tasks: dict[str, dict[str, list[bool]]]) -> str:
    title = f"Experts of {check.env}: successes in {check.episodes} episodes a task, from seed {check.seed}"
    lines = [f"# {title}", "", "| task | through this adapter | in its own loop | alike |", "|---|---|---|---|"]
    for task, both in tasks.items():
        alike = sum(ours == theirs for ours, theirs in zip(both["ours"], both["theirs"], strict=True))
        lines.append(f"| {task} | {sum(both['ours'])} | {sum(both['theirs'])} | {alike} of {check.episodes} |")
    ours, theirs = (sum(sum(both[side]) for both in tasks.values()) for side in ("ours", "theirs"))
    lines.append(f"| all {len(tasks)} | {ours} | {theirs} | |")
    return "\n".join([*lines, ""])


class _ExpertWorker:
    """Plays all seeds of one task in both loops; runs in a process of its own."""

    def __init__(self, check: ExpertCheck) -> None:
        self.check = check
        self.make_expert = expert_maker(find_environment(check.env))

    def run(self, span: Span, report: Report) -> None:
        for task in self.check.tasks[span.start : span.stop]:
            seeds = range(self.check.seed, self.check.seed + self.check.episodes)
            report((task, self._ours(task, seeds), _theirs(task, seeds)))

    def close(self) -> None:
        pass

    def _ours(self, task: str, seeds: range) -> list[bool]:
        outcomes = []
        robot = GymRobot(find_environment(self.check.env, task), task=task, lazy=True)
        with robot:
            for seed in seeds:
                robot.reset(seed)
                expert = self.make_expert(robot.environment, np.random.default_rng(seed))
                while not robot.finished:
                    robot.command(expert.act())
                outcomes.append(robot.success)
        return outcomes


def _theirs(task: str, seeds: range) -> list[bool]:
    """Nothing of ours: MetaWorld's environment, as its own `set_task` and LeRobot's evaluation ready it, and policy."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.policies import ENV_POLICY_MAP

    env: Any = ALL_V3_ENVIRONMENTS[task]()
    env._partially_observable, env._set_task_called = False, True
    del env.sawyer_observation_space
    env._freeze_rand_vec, env.seeded_rand_vec = False, True
    policies: Any = ENV_POLICY_MAP
    policy = policies[task]()
    outcomes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in seeds:
            env.seed(seed)
            observation, _ = env.reset(seed=seed)
            done = False
            for _ in range(HORIZON):
                observation, _, _, truncated, info = env.step(policy.get_action(observation))
                done = bool(info["success"])
                if done or truncated:
                    break
            outcomes.append(done)
    env.close()
    return outcomes
