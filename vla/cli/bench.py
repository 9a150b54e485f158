"""`vla bench`: what can be measured, and who measures it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vla.cli.arguments import above_zero, environment, existing_folder, one_of, whole
from vla.cli.common import add_command, add_device, add_workers, check_outputs, refuse, write_json
from vla.errors import UserError
from vla.policies import device_of
from vla.processes import default_workers

DOCTOR_EPISODES = 24
ENVIRONMENTS = {"suites": "metaworld"} | dict.fromkeys(("policies", "serve", "dds", "soak"), "tabletop")
TAKES = {
    "sim": "",
    "latency": "policy peer env seed tasks episodes out device workers",
    "perturbations": "policy env seed tasks episodes out device workers",
    "policies": "contest dataset only env seed tasks episodes seconds minutes out device workers",
    "serve": "policy device",
    "runtime": "policy env seed seconds minutes out device",
    "soak": "policy env seed seconds minutes out device",
    "dds": "seconds minutes",
    "dds --episodes": "episodes policy env seed device",
    "loader": "size frames many seed",
    "actions": "env seed episodes",
    "suites": "",
    "suites --experts": "experts env seed tasks episodes out workers",
    "doctor": "trials rlds table seed workers",
    "teleop": "seconds minutes",
    "words": "policy env seed scenes device workers",
}
"""The options of each beside --json."""

Document = dict[str, Any]


def add(commands: Any) -> None:
    listed = "; ".join(f"{name}: {about}" for name, (about, _) in BENCHES.items())
    parser = add_command(commands, "bench", _bench, "measure", epilog=listed)
    parser.add_argument("what", type=one_of("bench", BENCHES), metavar="WHAT", help=", ".join(BENCHES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--policy", metavar="P", help="default tabletop-suite in that environment, else tabletop")
    parser.add_argument(
        "--env",
        type=environment,
        metavar="E",
        help="default tabletop-suite; suites: metaworld; policies, dds, soak: tabletop",
    )
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S", help="of the first episode (default 0)")
    parser.add_argument("--tasks", nargs="+", default=[], metavar="NAME", help="these families (default all)")
    parser.add_argument(
        "--episodes", type=whole(1), metavar="N", help="a point (200, policies 100), task (suites 20); actions: 40"
    )
    parser.add_argument("--experts", action="store_true", help="suites: play the experts, here and in their own loop")
    parser.add_argument("--scenes", type=whole(1), default=1000, metavar="N", help="words: scenes (default 1000)")
    parser.add_argument(
        "--seconds",
        type=above_zero,
        metavar="S",
        help="how long (runtime: 30 of each, dds: 60, teleop: 600, policies: 1800, soak: 3600)",
    )
    parser.add_argument("--minutes", type=above_zero, metavar="M", help="instead of --seconds")
    doctor = parser.add_argument_group("doctor")
    doctor.add_argument(
        "--trials",
        type=whole(0),
        default=3,
        metavar="N",
        help="of a fault, size, origin (default 3; 0: clean data only)",
    )
    doctor.add_argument("--rlds", type=existing_folder, metavar="DIR", help="a third origin: a shipped card's dataset")
    doctor.add_argument("--table", type=Path, metavar="FILE", help="write the results as a Markdown table")
    loader = parser.add_argument_group("loader")
    loader.add_argument("--size", type=whole(64), default=256, metavar="PX", help="side of its pictures (default 256)")
    loader.add_argument(
        "--frames", type=whole(100), default=1000, metavar="N", help="to load, in hundreds, default %(default)s"
    )
    loader.add_argument("--many", type=whole(100), default=1000, metavar="N", help="short episodes (default 1000)")
    latency = parser.add_argument_group("latency")
    latency.add_argument("--peer", metavar="P", help="the same recipe trained at age 0 only, measured beside it")
    parser.add_argument("--out", type=Path, metavar="D", help="folder (default outputs/WHAT)")
    policies = parser.add_argument_group("policies")
    policies.add_argument("--contest", default="tabletop", metavar="C", help="who: a shipped name or a file of YAML")
    policies.add_argument("--dataset", nargs="+", default=[], type=existing_folder, metavar="DIR", help="to train on")
    policies.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these of the contest (default all)")
    add_device(parser)
    add_workers(parser)


def _bench(args: argparse.Namespace) -> None:
    forms = [f"{args.what} --{name}" for name in ("episodes", "experts") if getattr(args, name)]
    what = next((form for form in forms if form in TAKES), args.what)
    every = {name for names in TAKES.values() for name in names.split()}
    refuse(args, f"is not for {what}", *sorted(every - set(TAKES[what].split())))
    check_outputs(json=args.json, table=args.table)
    if args.minutes is not None:
        if args.seconds is not None:
            raise UserError("bench: give --seconds or --minutes, not both")
        args.seconds = 60 * args.minutes
    args.env = args.env or ENVIRONMENTS.get(args.what, "tabletop-suite")
    args.policy = args.policy or ("tabletop-suite" if args.env == "tabletop-suite" else "tabletop")
    document = BENCHES[args.what][1](args)
    if args.json:
        write_json(args.json, document)


def _players(args: argparse.Namespace) -> int:
    """Processes that each load what they play with."""
    return args.workers or default_workers(device_of(args.policy, args.device))


def _sim(_: argparse.Namespace) -> Document:
    from vla.bench.sim import bench_sim

    return bench_sim()


def _latency(args: argparse.Namespace) -> Document:
    from vla.bench.latency import Study, bench_latency, default_tasks

    tasks = default_tasks(args.env, args.tasks)
    study = Study(args.policy, args.peer, args.env, tasks, args.episodes or 200, args.seed)
    return bench_latency(study, args.out or Path("outputs/latency"), _players(args), device=args.device)


def _perturbations(args: argparse.Namespace) -> Document:
    from vla.bench.perturbations import Study, bench_perturbations

    study = Study(args.policy, args.env, tuple(args.tasks) or ("all",), args.episodes or 200, args.seed)
    out = args.out or Path("outputs/perturbations")
    return bench_perturbations(study, out, _players(args), device=args.device)


def _policies(args: argparse.Namespace) -> Document:
    from vla.bench.contest import load_field
    from vla.bench.policies import Contest, bench_policies, entrants

    field = entrants(load_field(args.contest), args.only)
    tasks, seconds = tuple(args.tasks) or ("all",), args.seconds or 1800.0
    contest = Contest(tuple(args.dataset), seconds, args.env, tasks, args.episodes or 100, args.seed, args.device)
    return bench_policies(contest, field, args.out or Path("outputs/policies"), _players(args))


def _serve(args: argparse.Namespace) -> Document:
    from vla.bench.serve import bench_serve

    return bench_serve(args.policy, args.device)


def _runtime(args: argparse.Namespace) -> Document:
    from vla.bench.runtime import bench_runtime

    out = args.out or Path("outputs/runtime")
    return bench_runtime(args.policy, args.env, args.seed, args.seconds or 30.0, out, args.device)


def _soak(args: argparse.Namespace) -> Document:
    from vla.bench.soak import bench_soak

    out = args.out or Path("outputs/soak")
    return bench_soak(args.policy, args.env, args.seed, args.seconds or 3600.0, out, args.device)


def _dds(args: argparse.Namespace) -> Document:
    if args.episodes:
        from vla.bench.dds_episodes import bench_episodes

        return bench_episodes(args.policy, args.env, args.episodes, args.seed, args.device)
    from vla.bench.dds import bench_dds

    return bench_dds(args.seconds or 60.0)


def _loader(args: argparse.Namespace) -> Document:
    from vla.bench.loader import bench_loader

    return bench_loader(args.size, -(-args.frames // 100), many=args.many, seed=args.seed)


def _actions(args: argparse.Namespace) -> Document:
    from vla.bench.actions import EPISODES, bench_actions

    return bench_actions(args.env, args.seed, args.episodes or EPISODES)


def _suites(args: argparse.Namespace) -> Document:
    if args.experts:
        from vla.bench.suites import ExpertCheck, bench_experts, expert_tasks

        check = ExpertCheck(args.env, expert_tasks(args.env, args.tasks), args.episodes or 20, args.seed)
        return bench_experts(check, args.workers or default_workers(), args.out or Path("outputs/experts"))
    from vla.evaluation.suites.listing import list_suites

    return list_suites()


def _doctor(args: argparse.Namespace) -> Document:
    from vla.bench.doctor import bench_doctor, table

    workers = args.workers or default_workers()
    document = bench_doctor(DOCTOR_EPISODES, args.trials, args.seed, args.rlds, workers)
    print(table(document))
    if args.table:
        args.table.parent.mkdir(parents=True, exist_ok=True)
        args.table.write_text(table(document), encoding="utf-8")
    return document


def _words(args: argparse.Namespace) -> Document:
    from vla.bench.words import bench_words

    workers = args.workers or default_workers()  # they render: S2 is in this process
    return bench_words(args.policy, args.env, args.scenes, args.seed, workers, device=args.device)


def _teleop(args: argparse.Namespace) -> Document:
    from vla.bench.teleop import bench_teleop

    return bench_teleop(args.seconds or 600.0)


BENCHES: dict[str, tuple[str, Callable[[argparse.Namespace], Document]]] = {
    "sim": ("environment steps per second on one core, with both cameras", _sim),
    "latency": (
        "success against the delays of S2 and S1, of a policy run at two speeds and otherwise (see --policy)",
        _latency,
    ),
    "perturbations": (
        "success under other words, other light, a moved camera, distractors and delays, in one table (see --policy)",
        _perturbations,
    ),
    "policies": (
        "ours and LeRobot's, trained for the same time: success, delays, speed in one table (see --contest)",
        _policies,
    ),
    "serve": ("what serving over a websocket costs beside the model's own time (see --policy)", _serve),
    "runtime": (
        "how regularly a robot is commanded at two speeds, and by the same model in one thread (see --policy)",
        _runtime,
    ),
    "soak": ("whether a run of an hour keeps its rate and its memory, and leaves nothing behind (see --policy)", _soak),
    "dds": (
        "write-to-take time and losses of images and joint states over DDS, beside stock cyclonedds (see --seconds); "
        "with --episodes, success on a simulated robot over DDS and in process",
        _dds,
    ),
    "loader": ("training samples per second and memory, beside LeRobot's dataset (see --size)", _loader),
    "actions": ("FAST action tokens: how many, and how fast, on the experts' movements", _actions),
    "suites": (
        "which public benchmarks can be run here; with --experts, whether their experts do as well as at home",
        _suites,
    ),
    "doctor": ("how many planted faults `vla data doctor` finds, by size, in data of several origins", _doctor),
    "teleop": (
        "control periods and lost frames while two cameras are recorded, beside LeRobot; the page's delays (--minutes)",
        _teleop,
    ),
    "words": (
        "what S2 says of new scenes: captions, counts, relations, places, and of what is not there (see --policy)",
        _words,
    ),
}
