"""Success against latency: the same policy run at two speeds and otherwise, over the same seeds.

Every point (a way to run, an S2 delay, an S1 delay) is kept in `points/`, so that an interrupted measurement goes on.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vla import assets
from vla.bench.points import Measured, Points, devices, families_in_turn
from vla.bench.table import Row, error_bars, in_points, report
from vla.errors import UserError
from vla.evaluation.episode import Play
from vla.evaluation.paired import paired_difference
from vla.evaluation.pool import crew
from vla.evaluation.provenance import command_line
from vla.evaluation.setup import Setup
from vla.evaluation.statistics import success_summary
from vla.policies import check_policy
from vla.robots.gym_sim import find_environment
from vla.runtime.loop import Policy, Timing
from vla.runtime.variants import Variant
from vla.spec import RobotSpec

S2_DELAYS_S, S1_DELAYS = (0.0, 0.2, 0.5, 1.0), (0, 2, 4, 8)
USUAL_S2_DELAY_S = 0.2
OURS, PEER = "two-speed", "trained-at-age-0"
WAYS = {
    OURS: "as deployed: S1 acts on the newest thought, whose age it knows, while S2 thinks the next",
    PEER: "the same two speeds; its S1 met fresh thoughts only in training (recipe: `s1: {delays: {max_age: 0}}`)",
    "frozen": "S2's first thought is its only one",
    "blind": "S2 hears the instruction over a black image; S1 keeps its eyes",
    "synchronous": "one rate: the robot holds while S2 and then S1 compute",
}


@dataclass(frozen=True)
class Study:
    """What is measured. peer: a policy of the same recipe trained at age 0 only, or None. tasks: families in turn."""

    policy: str
    peer: str | None
    env: str
    tasks: tuple[str, ...]
    episodes: int
    seed: int

    def __post_init__(self) -> None:
        if self.episodes < len(self.tasks):
            raise UserError(f"bench latency: {self.episodes} episodes cannot cover {len(self.tasks)} families")


@dataclass(frozen=True)
class Point:
    """One curve's value: `curve` names who runs and how."""

    curve: str
    policy: str
    variant: Variant
    s2_delay: float
    s1_delay: int

    @property
    def name(self) -> str:
        return f"{self.curve}-s2-{self.s2_delay:g}-s1-{self.s1_delay}"


def bench_latency(
    study: Study, out: Path, workers: int, loaded: Policy | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """Measure every point, write `latency.md` with its plots and `latency.json` into `out`; returns the table.

    `loaded` is used instead of loading the policies. device: theirs, as `load_policy` takes it. Raises UserError for
    bad input before the first episode.
    """
    for task in study.tasks:
        find_environment(study.env, task)
    if loaded is None:
        for policy in filter(None, (study.policy, study.peer)):
            check_policy(policy)
    assets.check_folder_writable(out, "--out")
    points = list(dict.fromkeys(_points(study)))
    with crew(workers, loaded) as players:
        kept = Points(out / "points", players, loaded is not None, device)
        found = {point: _measure(study, point, kept) for point in points}
    document = _document(study, {point: one.outcomes for point, one in found.items()})
    document["device"] = devices(found.values())
    document["command"] = command_line()
    (out / "latency.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    units = {"s2_delay": "S2 delay (s)", "s1_delay": f"S1 delay (steps of {_step_ms(study.env):g} ms)"}
    for axis, unit in units.items():
        _plot(document["curves"][axis], unit, out / f"{axis}.png")
    (out / "latency.md").write_text(_page(study, document, units), encoding="utf-8")
    print(f"page: {out / 'latency.md'}")
    table = report("Success at the usual delays, ours beside the others", _rows(document))
    return table | {"device": document["device"]}


def _points(study: Study) -> Iterator[Point]:
    ways: list[tuple[str, str, Variant]] = [(OURS, study.policy, "two-speed")]
    if study.peer:
        ways.append((PEER, study.peer, "two-speed"))
    ways += [(name, study.policy, name) for name in ("frozen", "blind", "synchronous")]
    for curve, policy, variant in ways:
        for delay in S2_DELAYS_S:
            yield Point(curve, policy, variant, delay, 0)
        for steps in S1_DELAYS:
            yield Point(curve, policy, variant, USUAL_S2_DELAY_S, steps)


def _measure(study: Study, point: Point, points: Points) -> Measured:
    """Outcomes in seed order; family i of the study plays the seeds seed + i, seed + i + n, ..."""
    asked = {"study": vars(study) | {"tasks": list(study.tasks)}, "point": vars(point)}
    timing = Timing(point.s2_delay, None, point.s1_delay)
    setup = Setup(point.policy, study.env, play=Play(timing, variant=point.variant))
    parts = families_in_turn(setup, study.tasks, study.episodes, study.seed)
    return points.measure(point.name, asked, parts)


def _document(study: Study, outcomes: dict[Point, list[bool]]) -> dict[str, Any]:
    """Per axis and curve: delay -> success with its interval, and ours minus it on the same seeds."""
    curves: dict[str, dict[str, dict[str, Any]]] = {"s2_delay": {}, "s1_delay": {}}
    reference = {(p.s2_delay, p.s1_delay): done for p, done in outcomes.items() if p.curve == OURS}
    for point, done in outcomes.items():
        entry = success_summary(done)
        entry["ours_minus_it"] = vars(paired_difference(reference[point.s2_delay, point.s1_delay], done))
        if point.s1_delay == 0:
            every = len(study.tasks)
            entry["by_family"] = {task: sum(done[i::every]) / len(done[i::every]) for i, task in enumerate(study.tasks)}
            curves["s2_delay"].setdefault(point.curve, {})[f"{point.s2_delay:g}"] = entry
        if point.s2_delay == USUAL_S2_DELAY_S:
            curves["s1_delay"].setdefault(point.curve, {})[str(point.s1_delay)] = entry
    loss = paired_difference(reference[0.0, 0], reference[0.5, 0])
    return {"study": vars(study), "curves": curves, "lost_from_0_to_0.5_s": vars(loss)}


def _rows(document: dict[str, Any]) -> list[Row]:
    at = f"{USUAL_S2_DELAY_S:g}"
    curves = document["curves"]["s2_delay"]
    ours = curves[OURS][at]["success_rate"]
    return [
        Row(f"success at S2 delay {at} s", ours, "share", name, curve[at]["success_rate"])
        for name, curve in curves.items()
        if name != OURS
    ]


def _step_ms(env: str) -> float:
    """A control step of its robot."""
    return 1000 / RobotSpec.load(assets.find("robot", find_environment(env).robot)).rate_hz


def _plot(curves: dict[str, dict[str, Any]], unit: str, picture: Path) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, points in curves.items():
        delays = [float(delay) for delay in points]
        rates, spread = error_bars(points.values())
        width = 2.5 if name == OURS else 1.2
        axes.errorbar(delays, rates, spread, label=name, marker="o", capsize=3, linewidth=width)
    axes.set_xlabel(unit)
    axes.set_ylabel("success (%)")
    axes.set_ylim(0, 100)
    figure.legend(loc="outside lower center", ncols=3)
    figure.savefig(picture, dpi=120)


def _page(study: Study, document: dict[str, Any], units: Mapping[str, str]) -> str:
    lines = [
        "# Success against latency",
        "",
        f"Policy `{study.policy}`" + (f", beside `{study.peer}`, trained at age 0 only" if study.peer else "") + ".",
        f"{study.episodes} episodes a point on `{study.env}` ({', '.join(study.tasks)}), the same seeds everywhere,",
        f"from {study.seed}. In brackets: two-speed minus this curve, paired, in points, with its 95 % interval.",
        f"Device: {document['device']}.",
        "",
        f"`{document['command']}`",
        "",
        *(f"- `{name}`: {WAYS[name]}." for name in document["curves"]["s2_delay"]),
    ]
    for axis, other in (("s2_delay", "S1 delay 0"), ("s1_delay", f"S2 delay {USUAL_S2_DELAY_S:g} s")):
        unit, curves = f"{units[axis]}, {other}", document["curves"][axis]
        delays = list(curves[OURS])
        lines += ["", f"## {unit}", "", f"![{unit}]({axis}.png)", "", f"| | {' | '.join(delays)} |"]
        lines.append("|---" * (len(delays) + 1) + "|")
        for name, points in curves.items():
            lines.append(f"| {name} | {' | '.join(_cell(points[delay], name == OURS) for delay in delays)} |")
    lost = document["lost_from_0_to_0.5_s"]
    lines += ["", f"From S2 delay 0 to 0.5 s, two-speed loses {in_points(lost)} points.", ""]
    return "\n".join([*lines, *_families(study, document["curves"]["s2_delay"])])


def _families(study: Study, curves: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Each family's success at every S2 delay, S1 delay 0."""
    delays = ", ".join(f"{delay:g}" for delay in S2_DELAYS_S)
    yield from ("## By family", "", f"Success (%) at S2 delays of {delays} s.", "")
    yield f"| | {' | '.join(study.tasks)} |"
    yield "|---" * (len(study.tasks) + 1) + "|"
    for name, points in curves.items():
        cells = (", ".join(f"{100 * one['by_family'][task]:.0f}" for one in points.values()) for task in study.tasks)
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def _cell(entry: dict[str, Any], ours: bool) -> str:
    rate = f"{100 * entry['success_rate']:.0f} %"
    return rate if ours else f"{rate} ({in_points(entry['ours_minus_it'])})"


def default_tasks(env: str, wanted: Sequence[str]) -> tuple[str, ...]:
    """The families asked for, or all of the environment."""
    return tuple(wanted) or find_environment(env).families
