"""`vla eval`, `vla rollout`, `vla describe` and `vla demo`: commands that run a policy and look at it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vla import assets
from vla.cli.arguments import above_zero, existing_file, existing_folder, perturbation, variant, whole
from vla.cli.common import (
    POLICY,
    add_command,
    add_dds_options,
    add_delays,
    add_device,
    add_lerobot_robot,
    add_policy,
    add_who_and_where,
    add_workers,
    check_outputs,
    refuse,
    use_dds_options,
    write_json,
)
from vla.errors import UserError
from vla.policies import check_policy, device_of
from vla.processes import default_workers

VARIANT_HELP = "two-speed (default), frozen, blind, deaf, synchronous or no-thoughts: other ways to run it"
DELAYS = ("s2_delay", "s2_period", "s1_delay")
PERTURB_HELP = "paraphrase or swap (the words), distractors, light, camera (the pictures); several at once"


def add(commands: Any) -> None:
    _add_eval(commands)
    _add_rollout(commands)
    describe = add_command(commands, "describe", _describe, "ask S2 about a picture")
    add_policy(describe)
    add_device(describe)
    describe.add_argument("--image", required=True, type=existing_file, metavar="FILE", help="a picture from the front")
    describe.add_argument("question", help='such as "what is left of the red cube?"')
    demo = add_command(commands, "demo", _demo, "ten episodes of the shipped policy, with video and report")
    demo.add_argument("--policy", default="tabletop", metavar="P", help=POLICY)
    add_device(demo)
    demo.add_argument("--out", type=Path, default=Path("outputs/demo"), metavar="DIR", help="default outputs/demo")


def _add_eval(commands: Any) -> None:
    parser = add_command(commands, "eval", _eval, "success rate over many episodes, with its interval and latencies")
    add_who_and_where(parser)
    add_device(parser)
    parser.add_argument("--episodes", type=whole(1), default=50, metavar="N", help="episodes (default 50)")
    parser.add_argument(
        "--repeats", type=whole(1), default=1, metavar="N", help="the episodes are N runs: mean and spread over them"
    )
    parser.add_argument("--task", default="all", metavar="NAME", help="one task family or group (default all)")
    parser.add_argument("--split", default="all", metavar="NAME", help="all, train, phrasing or pair (held out)")
    parser.add_argument("--perturb", nargs="+", action="extend", type=perturbation, metavar="NAME", help=PERTURB_HELP)
    parser.add_argument("--swap", action="append_const", dest="perturb", const="swap", help="as --perturb swap")
    parser.add_argument("--variant", type=variant, default="two-speed", metavar="V", help=VARIANT_HELP)
    parser.add_argument(
        "--no-thoughts",
        action="store_const",
        dest="variant",
        const="no-thoughts",
        help="S1 alone: latents stay 'none yet'; the same as --variant no-thoughts",
    )
    add_delays(parser)
    parser.add_argument(
        "--real-time", action="store_true", help="in wall-clock time, one after the other, as rollout --real-time"
    )
    add_workers(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    offline = parser.add_argument_group("on recorded episodes", "No simulator: errors of actions at ages of thoughts.")
    offline.add_argument("--dataset", type=existing_folder, metavar="DIR", help="a LeRobot v3 dataset with a spec")
    offline.add_argument("--all-episodes", action="store_true", help="not only those that training holds out")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.html and its plots there")
    parser.add_argument("--compare", type=existing_file, metavar="FILE", help="JSON of another policy's same episodes")


def _eval(args: argparse.Namespace) -> None:
    check_outputs(json=args.json)
    if args.dataset:
        return _eval_offline(args)
    refuse(args, "is for --dataset", "all_episodes")
    if args.real_time:
        refuse(args, "is for simulated time, not for --real-time", "workers")
    from vla.evaluation.evaluate import EvalOptions, evaluate
    from vla.runtime.loop import Timing

    options = EvalOptions(
        task=args.task,
        split=args.split,
        perturb=tuple(args.perturb or ()),
        variant=args.variant,
        timing=Timing(args.s2_delay, args.s2_period, args.s1_delay),
        real_time=args.real_time,
        repeats=args.repeats,
        report=args.report,
        compare=args.compare,
        device=args.device,
    )
    workers = args.workers or default_workers(device_of(args.policy, args.device))
    document = evaluate(args.policy, args.env, args.episodes, args.seed, options, workers)
    if args.json:
        write_json(args.json, document)


def _eval_offline(args: argparse.Namespace) -> None:
    of_scenes = ("env", "episodes", "seed", "task", "split", "perturb", "variant", "real_time", "repeats", "workers")
    refuse(args, "is for environments, not for --dataset", *of_scenes, "report", "compare", *DELAYS)
    from vla.evaluation.offline import evaluate_offline

    document = evaluate_offline(args.policy, args.dataset, args.all_episodes, args.device)
    if args.json:
        write_json(args.json, document)


def _add_rollout(commands: Any) -> None:
    parser = add_command(commands, "rollout", _rollout, "one episode, with S2's words and a video")
    add_who_and_where(parser)
    add_device(parser)
    parser.add_argument("--instruction", metavar="TEXT", help="what to do (default: the scene's own instruction)")
    parser.add_argument("--video", type=Path, metavar="FILE", help="write an mp4 of both cameras and S2's words")
    add_delays(parser)
    real = parser.add_argument_group("in wall-clock time", "S2, S1 and a 200 Hz command stream, each in its process.")
    real.add_argument("--real-time", action="store_true", help="on a simulated robot that does not wait for anybody")
    real.add_argument(
        "--out", type=Path, default=Path("outputs/realtime"), metavar="DIR", help="telemetry, default %(default)s"
    )
    robot = parser.add_argument_group("a robot instead of an environment")
    robot.add_argument(
        "--robot", choices=["dds", "lerobot"], help="dds: a ROS 2 robot, without ROS; lerobot: any of LeRobot's"
    )
    robot.add_argument("--spec", metavar="FILE", help="of the robot: a file or a shipped one; for dds with ros")
    add_lerobot_robot(robot)
    add_dds_options(robot)
    parser.add_argument(
        "--seconds", type=above_zero, metavar="S", help="stop after this long (default: the scene ends; real time: 12)"
    )


def _rollout(args: argparse.Namespace) -> None:
    if args.robot:
        return _rollout_robot(args)
    refuse(args, "is for --robot", "spec", "robot_config", "domain", "loopback")
    if args.real_time:
        return _rollout_in_real_time(args)
    refuse(args, "is for --real-time", "out")
    check_policy(args.policy)
    from vla.evaluation.rollout_command import rollout
    from vla.runtime.loop import Timing

    rollout(
        policy=args.policy,
        env=args.env,
        instruction=args.instruction,
        seed=args.seed,
        video=args.video,
        timing=Timing(args.s2_delay, args.s2_period, args.s1_delay),
        seconds=args.seconds,
        device=args.device,
    )


def _rollout_in_real_time(args: argparse.Namespace) -> None:
    refuse(args, "is for simulated time, not for --real-time", "video", "s1_delay", "s2_delay")
    from vla.evaluation.realtime import RealTimeRun
    from vla.evaluation.realtime_rollout import realtime_rollout
    from vla.robots.sim_wires import World
    from vla.runtime.supervisor import RunSettings

    how = RunSettings() if args.s2_period is None else RunSettings(s2_period=args.s2_period)
    world = World(args.env, args.seed, instruction=args.instruction)
    seconds = args.seconds or 12.0
    realtime_rollout(RealTimeRun(args.policy, world, seconds, args.out, how=how, device=args.device))


def _rollout_robot(args: argparse.Namespace) -> None:
    if not args.spec:
        raise UserError(f"rollout: --robot {args.robot} needs --spec, which says what its numbers mean")
    refuse(args, "is for environments, not for --robot", "env", "real_time", "video", "out")
    assets.find("robot", args.spec)
    check_policy(args.policy)
    if args.robot == "lerobot":
        return _rollout_lerobot(args)
    refuse(args, "is for --robot lerobot", "robot_config")
    use_dds_options(args)
    from vla.evaluation.dds_rollout import dds_rollout
    from vla.runtime.loop import Timing

    timing = Timing(args.s2_delay, args.s2_period, args.s1_delay)
    what = args.policy, args.spec, args.instruction
    dds_rollout(*what, args.seed, args.seconds, timing, args.domain, device=args.device)


def _rollout_lerobot(args: argparse.Namespace) -> None:
    for name in ("robot_config", "instruction", "seconds"):
        if not getattr(args, name):
            raise UserError(f"rollout: --robot lerobot needs --{name.replace('_', '-')}")
    refuse(args, "is for simulated time, not for --robot lerobot", "seed", *DELAYS)
    refuse(args, "is for --robot dds", "domain", "loopback")
    from vla.evaluation.guarded_rollout import lerobot_rollout

    lerobot_rollout(args.policy, args.spec, args.robot_config, args.instruction, args.seconds, device=args.device)


def _describe(args: argparse.Namespace) -> None:
    assets.find("policy", args.policy)
    from vla.evaluation.describe import describe

    print(describe(args.policy, args.image, args.question, device=args.device))


def _demo(args: argparse.Namespace) -> None:
    from vla.evaluation.demo import demo

    demo(policy=args.policy, out=args.out, device=args.device)
