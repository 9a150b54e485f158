"""Policies trained for the same time on the same data and machine, and measured on the same seeds: ours and LeRobot's.

What is trained and measured is kept in the output folder, so that an interrupted contest goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vla import assets
from vla.bench.contest import Entrant, Field, Trained, content, train_entrant, with_episodes
from vla.bench.points import Measured, Points, families_in_turn
from vla.bench.table import Row, error_bars, in_points, report
from vla.errors import UserError
from vla.evaluation.episode import Play
from vla.evaluation.paired import paired_difference
from vla.evaluation.pool import crew
from vla.evaluation.setup import Setup
from vla.evaluation.statistics import success_summary
from vla.policies import load_policy
from vla.robots.gym_sim import find_environment
from vla.runtime.loop import Timing
from vla.spec import RobotSpec
from vla.training.datasets import spec_of
from vla.training.precision import device_named

CONDITIONS = {
    "no delay": Timing(),
    "S1 delay 8 steps": Timing(s1_delay=8),
    "S2 delay 1 s": Timing(s2_delay=1.0),
}
SPEED_EPISODES = 10
"""Played once more by one process alone, for the times that are told: other workers would be in its way."""


@dataclass(frozen=True)
class Contest:
    """What is asked of everyone. seconds: of training each. tasks: families in turn, or ("all",).

    Raises UserError if there is no such environment or task, families outnumber the episodes, or a dataset is of
    another robot than the environment's.
    """

    datasets: tuple[Path, ...]
    seconds: float
    env: str
    tasks: tuple[str, ...]
    episodes: int
    seed: int
    device: str = "auto"

    def __post_init__(self) -> None:
        for task in self.tasks:
            find_environment(self.env, task)
        if self.episodes < len(self.tasks):
            raise UserError(f"bench policies: {self.episodes} episodes cannot cover {len(self.tasks)} families")
        if not self.datasets:
            raise UserError("bench policies: give --dataset DIR..., made by vla collect")
        robot = RobotSpec.load(assets.find("robot", find_environment(self.env).robot))
        for folder in with_episodes(self.datasets):
            spec = spec_of(folder)
            try:
                spec.check_robot(robot)
            except UserError as error:
                raise UserError(f"bench policies: {folder} is not of --env {self.env}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        datasets = [str(folder.resolve()) for folder in self.datasets]
        where = device_named(self.device)
        return vars(self) | {"datasets": datasets, "tasks": list(self.tasks), "device": where}


def bench_policies(contest: Contest, field: Field, out: Path, workers: int) -> dict[str, Any]:
    """Train and measure everyone, write `policies.md`, `.json` and `.png` into `out`; returns the table.

    Raises UserError for bad input, and if `out` holds another contest.
    """
    assets.check_folder_writable(out, "--out")
    device = device_named(contest.device)
    few = replace(contest, episodes=max(len(contest.tasks), min(SPEED_EPISODES, contest.episodes)))
    rows: dict[str, dict[str, Any]] = {}
    reference: dict[str, list[bool]] = {}
    for entrant in field.policies:
        folder = out / entrant.name
        _claim(folder, {"contest": contest.to_dict(), "entrant": repr(entrant)} | content(entrant, contest.datasets))
        trained = train_entrant(entrant, contest.datasets, contest.seconds, folder, device)
        with crew(workers) as players:
            points = Points(folder / "points", players, device=device)
            found = {name: _measure(contest, entrant, trained, name, points) for name in CONDITIONS}
        with crew(1) as alone:
            timed = _measure(few, entrant, trained, "no delay", Points(folder / "speed", alone, device=device))
        reference = reference or {name: one.outcomes for name, one in found.items()}
        rows[entrant.name] = _row(trained, found, timed, reference)
    document = {"contest": contest.to_dict(), "policies": rows}
    (out / "policies.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    _plot(rows, out / "policies.png")
    (out / "policies.md").write_text(_page(contest, field, rows), encoding="utf-8")
    first, *others = rows
    ours = rows[first]["success"]["no delay"]["success_rate"]
    table = [Row("success", ours, "share", name, rows[name]["success"]["no delay"]["success_rate"]) for name in others]
    document = report(f"{first} beside the others, after {contest.seconds / 60:g} minutes each", table) | document
    print(f"page: {out / 'policies.md'}")
    return document


def _claim(folder: Path, asked: dict[str, Any]) -> None:
    """Make `folder` this entrant's in this contest; UserError if it is something else's."""
    file = folder / "asked.json"
    if file.is_file():
        known = json.loads(file.read_text(encoding="utf-8"))
        if known != {name: value for name, value in asked.items() if name in known}:  # older ones say less
            raise UserError(f"bench policies: {folder} is of another contest; choose another --out")
        return
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asked), encoding="utf-8")


def _measure(contest: Contest, entrant: Entrant, trained: Trained, condition: str, points: Points) -> Measured:
    timing = CONDITIONS[condition]
    play = Play(timing, variant=entrant.late if timing.s2_delay else "two-speed")
    setup = Setup(trained.policy, contest.env, play=play)
    parts = families_in_turn(setup, contest.tasks, contest.episodes, contest.seed)
    asked = {"contest": contest.to_dict(), "condition": condition}
    return points.measure(condition.replace(" ", "-"), asked, parts)


def _row(
    trained: Trained, found: dict[str, Measured], timed: Measured, reference: dict[str, list[bool]]
) -> dict[str, Any]:
    success = {
        name: success_summary(one.outcomes)
        | {"outcomes": one.outcomes, "difference": vars(paired_difference(one.outcomes, reference[name]))}
        for name, one in found.items()
    }
    speed = {"chunk_ms": timed.s1_ms, "thought_ms": timed.s2_ms}
    return {"parameters": _parameters(trained.policy), **vars(trained), **speed, "success": success}


def _parameters(folder: str) -> int:
    policy: Any = load_policy(folder)
    parts = [policy.policy] if hasattr(policy, "policy") else [policy.s1, policy.s2]
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def _plot(rows: dict[str, dict[str, Any]], picture: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    width = 0.8 / len(CONDITIONS)
    for place, name in enumerate(CONDITIONS):
        rates, spread = error_bars(row["success"][name] for row in rows.values())
        axes.bar([i + place * width for i in range(len(rows))], rates, width, yerr=spread, capsize=2, label=name)
    axes.set_xticks([i + width for i in range(len(rows))], list(rows))
    axes.set_ylabel("success (%), with 95 % intervals")
    axes.set_ylim(0, 100)
    axes.legend()
    figure.savefig(picture, dpi=120)


def _page(contest: Contest, field: Field, rows: dict[str, dict[str, Any]]) -> str:
    first = field.policies[0].name
    lines = [
        "# Policies trained for the same time",
        "",
        f"Each for {contest.seconds / 60:g} minutes on the same machine and data, then {contest.episodes} episodes of",
        f"`{contest.env}` ({', '.join(contest.tasks)}) from seed {contest.seed}, the same for all. Success with its",
        f"95 % interval; in brackets the paired difference to `{first}`, in points, with its interval. Device:",
        f"{device_named(contest.device)}, and one thread of the CPU for a chunk, timed in a process that plays alone.",
        "Ours needs a thought beside it, without delay for each; LeRobot's look and read in their chunk. Still scenes,",
        "where there are any, teach ours only: LeRobot's have no use for them.",
        "",
        "The minutes are those of training steps, and for ours also those in which S2 reads the episodes for S1; wall",
        "time has the rest too: other data, evaluations, checkpoints. Samples are what the steps draw: frames, and for",
        "ours the still scenes of S2's stage as well.",
        "",
        "![success](policies.png)",
        "",
        "| | parameters | training samples/s | wall time (min) | chunk p50 / p99 (ms) | thought p50 / p99 (ms) "
        f"| {' | '.join(CONDITIONS)} |",
        "|---" * (6 + len(CONDITIONS)) + "|",
    ]
    for name, row in rows.items():
        speeds = f"{_speed(row['chunk_ms'])} | {_speed(row['thought_ms'])}"
        cells = [_cell(one, name == first) for one in row["success"].values()]
        size, wall = f"{row['parameters'] / 1e6:.2f} M", f"{row['wall_s'] / 60:.1f}"
        cells = [size, f"{row['samples_per_s']:.0f}", wall, speeds, *cells]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "When S2 is late: ours at two speeds; a peer with embedded words hears them late and looks by itself; one that",
        "reads and looks in one model computes for as long, and the robot waits.",
        "",
        *(f"- `{entrant.name}`: {_listed(entrant)}" for entrant in field.policies),
    ]
    return "\n".join([*lines, ""])


def _listed(entrant: Entrant) -> str:
    """Its whole configuration in a line."""
    if entrant.peer is None:
        changed = f", changed: {json.dumps(entrant.change)}" if entrant.change else ""
        return f"recipe {entrant.recipe}{changed}, shares of the time {list(entrant.shares)}"
    peer = entrant.peer
    options = json.dumps(peer.options)
    return f"LeRobot's {peer.type}, batch {peer.batch}, text {peer.text}, lr {entrant.loop.lr:g}, {options}"


def _speed(ms: Mapping[str, float | None]) -> str:
    """Of a measurement that kept them: p50 / p99."""
    return " / ".join("-" if ms.get(key) is None else f"{ms[key]:.1f}" for key in ("p50", "p99"))


def _cell(one: dict[str, Any], first: bool) -> str:
    low, high = (100 * bound for bound in one["ci95"])
    rate = f"{100 * one['success_rate']:.0f} % ({low:.0f}-{high:.0f})"
    return rate if first else f"{rate} [{in_points(one['difference'])}]"


def entrants(field: Field, only: Sequence[str]) -> Field:
    """Those of these names, all by default; UserError for an unknown one."""
    names = [entrant.name for entrant in field.policies]
    for name in only:
        if name not in names:
            raise UserError(f"bench policies: no policy {name!r} in the contest; there are {', '.join(names)}")
    return Field(tuple(one for one in field.policies if not only or one.name in only))
