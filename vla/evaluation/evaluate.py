"""`vla eval`: how often a policy succeeds, and how fast it thinks, over many seeds."""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla import assets
from vla.errors import UserError
from vla.evaluation.compare import Wanted, compare, print_comparison, read_other
from vla.evaluation.console import print_summary, progress_bar
from vla.evaluation.episode import EpisodeResult, Play
from vla.evaluation.perturbations import PERTURBATIONS, looks_of, words_of
from vla.evaluation.pool import Job, play_all
from vla.evaluation.provenance import command_line, git_hash
from vla.evaluation.report import write_report
from vla.evaluation.setup import Setup
from vla.evaluation.statistics import percentiles, success_summary
from vla.policies import check_policy
from vla.robots.gym_sim import find_environment
from vla.runtime.loop import Policy, Timing
from vla.runtime.variants import Variant

Groups = Mapping[str, Sequence[str]]
WORDS_EVERY_S = 1.0
VIDEOS, SHEETS = 4, 18


@dataclass(frozen=True)
class EvalOptions:
    """What `vla eval` can be asked for.

    task, split: restrict what is asked. perturb: some of `vla.evaluation.perturbations`.
    variant: how the policy is run (`vla.runtime.variants`). real_time: on a robot that does not wait; of the timing
    only S2's period is then charged. repeats: the episodes are so many runs, whose spread is told. report: folder for
    report.html. compare: an earlier result over the same episodes, to pair this one with. device: of the policy, as
    `load_policy` takes it.
    """

    task: str = "all"
    split: str = "all"
    perturb: tuple[str, ...] = ()
    variant: Variant = "two-speed"
    timing: Timing = field(default_factory=Timing)
    real_time: bool = False
    repeats: int = 1
    report: Path | None = None
    compare: Path | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        words_of(self.perturb)

    def to_dict(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("task", "split", "variant", "real_time")}
        own["perturb"] = [name for name in PERTURBATIONS if name in self.perturb]
        return own | {name: getattr(self.timing, name) for name in ("s2_delay", "s2_period", "s1_delay")}


def evaluate(
    policy: str,
    env: str,
    episodes: int,
    seed: int,
    options: EvalOptions | None = None,
    workers: int = 1,
    loaded: Policy | None = None,
) -> dict[str, Any]:
    """Play seeds seed .. seed + episodes - 1, print a table, write the report if asked for; returns the JSON document.

    The outcomes depend on neither `workers` nor each other. `loaded` is used instead of loading `policy`, in this
    process. Episodes a minute are counted from the start of the workers, loading included. Raises UserError for
    whatever of the arguments is wrong, before the first episode.
    """
    options = options or EvalOptions()
    check_counts(episodes, seed, workers)
    if episodes % options.repeats:
        raise UserError(f"--episodes is {episodes}: give a multiple of --repeats {options.repeats}")
    real_time = _real_time(options)
    entry = find_environment(env, options.task, options.split)
    other = None
    if options.compare:
        swapped, paraphrased = (words in options.perturb for words in ("swap", "paraphrase"))
        wanted = Wanted(env, seed, episodes, options.task, options.split, swapped, paraphrased)
        other = read_other(options.compare, wanted)
    play = Play(
        timing=options.timing,
        choice=words_of(options.perturb) or "given",
        variant=options.variant,
        words_every=WORDS_EVERY_S if options.report else None,
    )
    if loaded is None:
        check_policy(policy)
    if options.report:
        assets.check_folder_writable(options.report, "--report")
    jobs = [Job(index, seed + index) for index in range(episodes)]
    with ExitStack() as stack:
        media = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vla-eval-"))) if options.report else None
        setup = Setup(
            policy=policy,
            env=env,
            task=options.task,
            split=options.split,
            play=play,
            looks=looks_of(options.perturb),
            media=str(media) if media else None,
            videos=VIDEOS,
            sheets=SHEETS,
            device=options.device,
        )
        results = []
        progress = stack.enter_context(progress_bar("eval", episodes))
        workers = 1 if real_time or loaded is not None else min(workers, episodes)
        begin = time.monotonic()
        played = real_time.play(setup, jobs) if real_time else play_all(setup, jobs, workers, loaded)
        for result in stack.enter_context(closing(played)):
            results.append(result)
            progress(result)
        minutes = (time.monotonic() - begin) / 60
        results.sort(key=lambda result: result.index)
        document = make_document(policy, env, seed, results, options)
        document |= {"workers": workers, "episodes_per_minute": episodes / minutes}
        if real_time:
            document |= real_time.measured(results)
        if other is not None:
            document["compared"] = compare(document, other, entry.groups)
        if options.report:
            write_report(options.report / "report.html", document, results, media)
    print_summary(document)
    if other is not None:
        print_comparison(document["compared"])
    if real_time:
        real_time.print_measured(document)
    return document


def _real_time(options: EvalOptions) -> Any:
    """`vla.evaluation.realtime_episodes` if it is asked for; UserError for what only simulated time can do."""
    if not options.real_time:
        return None
    if options.timing.s2_delay or options.timing.s1_delay or options.report or options.variant != "two-speed":
        raise UserError("eval: --s2-delay, --s1-delay, --variant and --report are for simulated time, not --real-time")
    if looks_of(options.perturb):
        raise UserError("eval: pictures are perturbed in simulated time only, not with --real-time")
    from vla.evaluation import realtime_episodes  # a runtime that simulated time has no use for

    return realtime_episodes


def group_mean(per_group: Mapping[str, Mapping[str, Any]]) -> float | None:
    """The mean of the groups' success rates, each counting the same, as MT50 is reported; None without groups."""
    rates = [group["success_rate"] for group in per_group.values()]
    return sum(rates) / len(rates) if rates else None


def check_counts(episodes: int, seed: int, workers: int) -> None:
    """UserError unless there is at least one episode and one worker, and the seed is not negative."""
    for name, value, least in (("--episodes", episodes, 1), ("--seed", seed, 0), ("--workers", workers, 1)):
        if value < least:
            raise UserError(f"{name} is {value}: give at least {least}")


def make_document(
    policy: str, env: str, seed: int, results: Sequence[EpisodeResult], options: EvalOptions
) -> dict[str, Any]:
    """The results as `vla eval --json` writes them; `results` in seed order."""

    def grouped(key: str) -> dict[str, dict[str, object]]:
        names = sorted({str(getattr(result, key)) for result in results})
        return {n: success_summary([r.success for r in results if getattr(r, key) == n]) for n in names}

    def pooled(key: str) -> list[float]:
        return [value for result in results for value in getattr(result, key)]

    groups = find_environment(env).groups
    return {
        "policy": policy,
        "env": env,
        "seed": seed,
        **_success(results, groups),
        "per_task": grouped("family"),
        "per_split": grouped("split"),
        "outcomes": [result.success for result in results],
        "latency": {key: percentiles(pooled(key)) for key in ("s1_ms", "s2_ms", "s2_age_s")},
        "counts": {name: sum(r.counts[name] for r in results) for name in (results[0].counts if results else ())},
        "options": options.to_dict(),
        "details": [
            {
                "seed": r.seed,
                "task": r.family,
                "split": r.split,
                "instruction": r.instruction,
                "original": r.original,
                "success": r.success,
                "steps": r.steps,
                "words": r.words,
            }
            for r in results
        ],
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "git": git_hash(),
        "command": command_line(),
    } | _repeats(results, groups, options.repeats)


def _success(results: Sequence[EpisodeResult], groups: Groups) -> dict[str, Any]:
    by_group = {name: [r.success for r in results if r.family in tasks] for name, tasks in groups.items()}
    per_group = {name: success_summary(some) for name, some in by_group.items() if some}
    outcomes = [result.success for result in results]
    return {**success_summary(outcomes), "per_group": per_group, "group_mean": group_mean(per_group)}


def _repeats(results: Sequence[EpisodeResult], groups: Groups, count: int) -> dict[str, Any]:
    """{"repeats": {"rates", "mean", "std"}} of so many runs of consecutive seeds; of the groups' means, if any."""
    if count == 1:
        return {}
    each = len(results) // count
    runs = [_success(results[i * each : (i + 1) * each], groups) for i in range(count)]
    rates = [run["success_rate"] if run["group_mean"] is None else run["group_mean"] for run in runs]
    return {"repeats": {"rates": rates, "mean": statistics.mean(rates), "std": statistics.stdev(rates)}}
