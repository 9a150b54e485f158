"""One table of what a policy loses to other words, other pictures and delays, paired by seed with the run as told.

Every condition is kept in `points/`, so that an interrupted measurement goes on.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vla import assets
from vla.bench.points import Measured, Points, devices, families_in_turn
from vla.bench.table import Row, error_bars, in_points, report
from vla.errors import UserError
from vla.evaluation.console import untold
from vla.evaluation.episode import Play
from vla.evaluation.paired import paired_difference
from vla.evaluation.perturbations import PERTURBATIONS, looks_of, words_of
from vla.evaluation.pool import crew
from vla.evaluation.setup import Setup
from vla.evaluation.statistics import success_summary
from vla.policies import check_policy
from vla.robots.gym_sim import find_environment, make_robot
from vla.runtime.loop import Policy, Timing

AS_TOLD = "as told"
S2_DELAYS_S, S1_DELAYS = (0.2, 0.5, 1.0), (2, 4, 8)


@dataclass(frozen=True)
class Study:
    """What is measured. tasks: families in turn, or ("all",): what each seed draws. Words are those of training where
    the environment tells them apart, so that a paraphrase is paired with what it was never like.

    Raises UserError if there is no such environment or task, or families outnumber the episodes.
    """

    policy: str
    env: str
    tasks: tuple[str, ...]
    episodes: int
    seed: int

    def __post_init__(self) -> None:
        for task in self.tasks:
            find_environment(self.env, task)
        if self.episodes < len(self.tasks):
            raise UserError(f"bench perturbations: {self.episodes} episodes cannot cover {len(self.tasks)} families")

    @property
    def split(self) -> str:
        return "train" if "train" in find_environment(self.env).splits else "all"

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {"tasks": list(self.tasks), "split": self.split}


@dataclass(frozen=True)
class Condition:
    """One row: what is perturbed, and the latency charged."""

    name: str
    perturb: tuple[str, ...] = ()
    s2_delay: float = 0.0
    s1_delay: int = 0


def conditions() -> list[Condition]:
    """As told first; every perturbation alone, all of the pictures together, and every delay alone."""
    pictures = looks_of(tuple(PERTURBATIONS))
    return [
        Condition(AS_TOLD),
        *(Condition(name, (name,)) for name in PERTURBATIONS),
        Condition(" + ".join(pictures), pictures),
        *(Condition(f"S2 delay {delay:g} s", s2_delay=delay) for delay in S2_DELAYS_S),
        *(Condition(f"S1 delay {steps} steps", s1_delay=steps) for steps in S1_DELAYS),
    ]


def bench_perturbations(
    study: Study, out: Path, workers: int, loaded: Policy | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """Measure every condition, write `perturbations.md`, `.json` and `.png` into `out`; returns the table.

    `loaded` is used instead of loading the policy. device: its, as `load_policy` takes it. Raises UserError for bad
    input before the first episode.
    """
    if loaded is None:
        check_policy(study.policy)
    assets.check_folder_writable(out, "--out")
    with make_robot(study.env, split=study.split, perturb=looks_of(tuple(PERTURBATIONS))) as robot:
        robot.reset(study.seed)
        robot.paraphrases()
    with crew(workers, loaded) as players:
        points = Points(out / "points", players, loaded is not None, device)
        found = {one.name: _measure(study, one, points) for one in conditions()}
    where = devices(found.values())
    document: dict[str, Any] = {"study": study.to_dict(), "device": where, "conditions": _compare(found)}
    (out / "perturbations.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    _plot(document["conditions"], out / "perturbations.png")
    (out / "perturbations.md").write_text(_page(study, document["conditions"], where), encoding="utf-8")
    told = document["conditions"][AS_TOLD]["success_rate"]
    rows = [
        Row(name, one["success_rate"], "success", AS_TOLD, told)
        for name, one in document["conditions"].items()
        if name != AS_TOLD
    ]
    table = report(f"{study.policy} in {study.env}, perturbed", rows)
    print(f"page: {out / 'perturbations.md'}")
    return table | {"device": where, "conditions": document["conditions"]}


def _measure(study: Study, one: Condition, points: Points) -> Measured:
    asked = {"study": study.to_dict(), "condition": vars(one) | {"perturb": list(one.perturb)}}
    play = Play(Timing(one.s2_delay, None, one.s1_delay), choice=words_of(one.perturb) or "given")
    setup = Setup(study.policy, study.env, split=study.split, play=play, looks=looks_of(one.perturb))
    parts = families_in_turn(setup, study.tasks, study.episodes, study.seed)
    return points.measure(one.name.replace(" ", "-"), asked, parts)


def _compare(found: dict[str, Measured]) -> dict[str, dict[str, Any]]:
    """Per condition its success with interval, and the paired difference to the run as told."""
    told = found[AS_TOLD].outcomes
    return {
        name: success_summary(one.outcomes)
        | {"outcomes": one.outcomes, "difference": vars(paired_difference(one.outcomes, told))}
        | {"unparaphrased": one.unparaphrased}
        for name, one in found.items()
    }


def _plot(found: dict[str, dict[str, Any]], picture: Path) -> None:
    figure = Figure(figsize=(7, 0.4 * len(found) + 1), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = list(found)
    rates, spread = error_bars(found.values())
    axes.barh(names, rates, xerr=spread, capsize=3, color=["tab:blue", *["tab:gray"] * (len(names) - 1)])
    axes.axvline(rates[0], color="tab:blue", linestyle=":")
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("success (%), with 95 % intervals")
    figure.savefig(picture, dpi=120)


def _page(study: Study, found: dict[str, dict[str, Any]], device: str) -> str:
    lines = [
        "# What perturbations cost",
        "",
        f"Policy `{study.policy}` in `{study.env}` ({', '.join(study.tasks)}): {study.episodes} episodes a row, of the",
        f"same seeds, from {study.seed}; no delays but in the rows that name them. The difference to the run as",
        "told is in points, paired by episode, with its 95 % interval (Bonett and Price 2012).",
        f"Device: {device}.",
        *(["Told are words of training."] if study.split == "train" else []),
        "",
        "![success by condition](perturbations.png)",
        "",
        "| condition | success (95 % interval) | difference to as told |",
        "|---|---|---|",
    ]
    for name, one in found.items():
        low, high = (100 * bound for bound in one["ci95"])
        cell = "" if name == AS_TOLD else in_points(one["difference"])
        if note := untold(one["unparaphrased"]):
            name = f"{name} ({note})"
        lines.append(f"| {name} | {100 * one['success_rate']:.0f} % ({low:.0f}-{high:.0f}) | {cell} |")
    lines += ["", *(f"- {name}: {what}." for name, what in PERTURBATIONS.items())]
    if find_environment(study.env).package:
        lines.append("- Here a swap asks for another task than the one that is judged: a policy that listens fails.")
    return "\n".join([*lines, ""])
