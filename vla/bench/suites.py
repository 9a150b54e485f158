"""Whether a suite's experts do in our adapter what they do in the benchmark's own loop, on the same seeds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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


def bench_experts(check: ExpertCheck, workers: int) -> dict[str, Any]:
    """Success of the experts, task by task; returns the benchmark document, with every outcome in "tasks".

    Raises UserError for an environment that has no loop of its own to compare with.
    """
    if set(check.tasks) - set(METAWORLD_MT50):
        raise UserError(f"bench suites --experts: {check.env} has no experts of its own; there are: metaworld")
    found: dict[str, dict[str, list[bool]]] = {}
    with progress_bar("experts", len(check.tasks)) as advance:

        def note(result: tuple[str, list[bool], list[bool]]) -> None:
            task, ours, theirs = result
            found[task] = {"ours": ours, "theirs": theirs}
            advance(1)

        spans = [Span(i, i + 1) for i in range(len(check.tasks))]
        run_spans(_ExpertWorker, check, spans, workers, note)
    tasks = {task: found[task] for task in check.tasks}
    sums = {task: (sum(both["ours"]), sum(both["theirs"])) for task, both in tasks.items()}
    peer = "own loop"
    share = 1 / check.episodes
    rows = [Row(task, share * ours, "success", peer, share * theirs) for task, (ours, theirs) in sums.items()]
    ours, theirs = np.sum(list(sums.values()), axis=0) / (check.episodes * len(tasks))
    rows.append(Row("all", float(ours), "success", peer, float(theirs)))
    differing = [task for task, both in tasks.items() if both["ours"] != both["theirs"]]
    document = report(f"Experts of {check.env}, {check.episodes} episodes a task", rows)
    print("every episode ends alike in both loops" if not differing else f"episodes differ in: {', '.join(differing)}")
    return document | {"seed": check.seed, "tasks": tasks}


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
