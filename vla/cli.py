"""The `vla` command: reads arguments, checks them, and calls the room that does the work.

Exit codes: 0 done, 2 bad usage or input (one line on stderr, no traceback), 130 interrupted, 1 anything else.
Heavy imports happen inside the commands, so that `vla --help` and a typing mistake answer at once.
"""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vla import __version__, assets
from vla.arguments import device, environment, existing_file, existing_folder, one_of, seconds, variant, whole
from vla.data.commands import add_doctor, add_view, check_outputs
from vla.data.loading_commands import add_loading_commands
from vla.errors import UserError
from vla.robots.dds_commands import add_dds_options, add_sim_options, run_sim, use_dds_options

if TYPE_CHECKING:
    from vla.spec import RobotSpec

VARIANT_HELP = "two-speed (default), frozen, blind, deaf, synchronous or no-thoughts: other ways to run it"
BENCHES = {
    "sim": "environment steps per second on one core, with both cameras",
    "latency": "success against the delays of S2 and S1, of a policy run at two speeds and otherwise (see --policy)",
    "serve": "what serving over a websocket costs beside the model's own time (see --policy)",
    "runtime": "how regularly a robot is commanded at two speeds, and by the same model in one thread (see --policy)",
    "dds": "write-to-take time and losses of images and joint states over DDS, beside stock cyclonedds (see --seconds)",
    "loader": "training samples per second and memory, beside LeRobot's dataset (see --size)",
    "actions": "FAST action tokens: how many, and how fast, on the experts' movements",
    "suites": "which public benchmarks can be run here; with --experts, whether their experts do as well as at home",
    "doctor": "how many planted faults `vla data doctor` finds, by size, in data of several origins",
    "words": "what S2 says of new scenes: captions, counts, relations, places, and of what is not there (see --policy)",
}

DOCTOR_EPISODES = 24


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        args = build_parser().parse_args(argv)
        return args.run(args) or 0
    except UserError as error:
        print(f"vla: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vla: interrupted", file=sys.stderr)
        return 130
    except Exception:
        traceback.print_exc()
        return 1


class _Parser(argparse.ArgumentParser):
    """Usage errors in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="vla", description="A two-speed vision-language-action policy.")
    parser.add_argument("--version", action="version", version=f"vla {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_collect(commands)
    _add_data(commands)
    _add_train(commands)
    _add_eval(commands)
    _add_rollout(commands)
    _add_describe(commands)
    _add_demo(commands)
    _add_serve(commands)
    _add_sim(commands)
    _add_teleop(commands)
    _add_quantize(commands)
    _add_spec(commands)
    _add_bench(commands)
    return parser


def _add_collect(commands: Any) -> None:
    parser = _command(commands, "collect", _collect, "record episodes and still scenes into a dataset")
    parser.add_argument("--env", required=True, type=environment, metavar="NAME", help="environment, such as tabletop")
    parser.add_argument("--episodes", type=whole(0), default=0, metavar="N", help="episodes to record (default 0)")
    parser.add_argument("--stills", type=whole(0), default=0, metavar="N", help="still scenes with words (default 0)")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S", help="seed of the first episode (default 0)")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the dataset; goes on if interrupted")
    parser.add_argument("--task", default="all", metavar="NAME", help="one task family (default all)")
    parser.add_argument("--policy", metavar="P", help="who acts: a policy instead of the scripted experts")
    parser.add_argument(
        "--corrected", action="store_true", help="with --policy: record what the expert would have done where it went"
    )
    _add_workers(parser)


def _collect(args: argparse.Namespace) -> None:
    if args.episodes + args.stills == 0:
        raise UserError("collect: nothing to do; give --episodes N or --stills N")
    assets.check_folder_writable(args.out)
    policy = str(assets.find("policy", args.policy)) if args.policy else None
    from vla.data.collect import collect
    from vla.robots.gym_sim import find_environment

    find_environment(args.env, args.task)
    collect(
        env=args.env,
        episodes=args.episodes,
        seed=args.seed,
        out=args.out,
        policy=policy,
        workers=args.workers,
        task=args.task,
        stills=args.stills,
        corrected=args.corrected,
    )


def _add_data(commands: Any) -> None:
    about = "bring in datasets that others recorded, examine them, make them ready for training"
    group = commands.add_parser("data", help=about, description=f"{about.capitalize()}.")
    kinds = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    imports = kinds.add_parser("import", help="into a LeRobot v3 dataset", description="Into a LeRobot v3 dataset.")
    formats = imports.add_subparsers(title="formats", metavar="FORMAT", required=True)
    rlds = _command(formats, "rlds", _import_rlds, "a directory of TensorFlow Datasets, without TensorFlow")
    rlds.add_argument("directory", type=existing_folder, metavar="DIR", help="the one with features.json")
    rlds.add_argument("--card", required=True, metavar="NAME", help="what its features mean: a shipped name or a file")
    rlds.add_argument("--out", required=True, type=Path, metavar="OUT", help="the dataset; goes on if interrupted")
    rlds.add_argument("--split", metavar="NAME", help="one split, such as train (default: all)")
    _add_workers(rlds)
    bag = _command(formats, "rosbag2", _import_rosbag2, "a ROS 2 bag, MCAP or sqlite3, without ROS")
    bag.add_argument("bag", type=Path, metavar="BAG", help="its folder, or one .mcap or .db3 file")
    bag.add_argument("--spec", required=True, metavar="FILE", help="of the robot, with a ros section")
    bag.add_argument("--out", required=True, type=Path, metavar="OUT", help="the dataset")
    bag.add_argument("--instruction", metavar="TEXT", help="what is done in it, if the bag does not say")
    add_loading_commands(kinds, _command, _write_json)
    add_doctor(kinds, _command, _doctor)
    add_view(kinds, _command, _view)
    exports = kinds.add_parser("export", help="from a LeRobot v3 dataset", description="From a LeRobot v3 dataset.")
    formats = exports.add_subparsers(title="formats", metavar="FORMAT", required=True)
    bag = _command(formats, "rosbag2", _export_rosbag2, "the bag that its robot would have recorded")
    bag.add_argument("dataset", type=existing_folder, metavar="DATASET", help="a LeRobot v3 dataset")
    bag.add_argument("--out", required=True, type=Path, metavar="BAG", help="the bag, a new folder")
    bag.add_argument("--spec", metavar="FILE", help="with the topics (default: the dataset's own)")
    bag.add_argument("--storage", choices=["mcap", "sqlite3"], default="mcap", help="default mcap")


def _import_rosbag2(args: argparse.Namespace) -> None:
    from vla.data.rosbag2.importer import import_rosbag2

    import_rosbag2(args.bag, args.spec, args.out, task=args.instruction)


def _export_rosbag2(args: argparse.Namespace) -> None:
    from vla.data.rosbag2.exporter import export_rosbag2

    export_rosbag2(args.dataset, args.out, args.spec, args.storage)


def _import_rlds(args: argparse.Namespace) -> None:
    from vla.data.rlds.importer import import_rlds

    import_rlds(args.directory, args.card, args.out, split=args.split, workers=args.workers)


def _doctor(args: argparse.Namespace) -> int:
    check_outputs(json=args.json, page=args.page)
    if args.policy:
        assets.find("policy", args.policy)
    from vla.data.doctor.visit import Visit, visit

    def simulator(spec: "RobotSpec") -> Any:
        from vla.robots.replayed import ReplayedArm

        return ReplayedArm(args.env, spec)

    def predictor(spec: "RobotSpec") -> Any:
        from vla.tandem import TandemPolicy

        tandem = TandemPolicy.from_pretrained(assets.find("policy", args.policy))
        tandem.spec.check_robot(spec)
        return lambda images, state, text: tandem.act(images, state, tandem.think(images, text, 0.0), 0.0)

    asked = Visit(args.directory, args.page, args.episodes)
    done = visit(asked, simulator if args.replay else None, predictor if args.policy else None)
    if args.json:
        _write_json(args.json, done)
    return 1 if done["findings"] else 0


def _view(args: argparse.Namespace) -> None:
    check_outputs(html=args.html, rerun=args.rerun)
    if args.rerun:
        from vla.data.view.rerun_file import write_rerun

        write_rerun(args.directory, args.rerun, args.episode)
        print(f"{args.rerun}: open it with `rerun {args.rerun}`")
    else:
        from vla.data.view.html import write_view

        file = args.html or Path(f"{args.directory.resolve().name}.html")
        assets.check_file_writable(file, "--html")
        write_view(args.directory, file, args.episode)
        print(file)


def _add_train(commands: Any) -> None:
    parser = _command(commands, "train", _train, "train a policy; goes on where a run in --out stopped")
    parser.add_argument(
        "--dataset", required=True, nargs="+", type=existing_folder, metavar="DIR", help="one or more, mixed"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the run: checkpoints, log, plots")
    parser.add_argument("--recipe", metavar="FILE", help="a shipped name or a YAML file")
    parser.add_argument("--device", type=device, default="auto", metavar="D", help="auto, cpu, cuda, cuda:N")
    parser.add_argument("--policy", metavar="P", help="start from this policy's weights")


def _train(args: argparse.Namespace) -> None:
    recipe = assets.find("recipe", args.recipe) if args.recipe else None
    policy = str(assets.find("policy", args.policy)) if args.policy else None
    assets.check_folder_writable(args.out)
    from vla.training.run import train

    train(datasets=args.dataset, out=args.out, recipe=recipe, device=args.device, policy=policy)


def _add_eval(commands: Any) -> None:
    parser = _command(commands, "eval", _eval, "success rate over many episodes, with its interval and latencies")
    _add_who_and_where(parser)
    parser.add_argument("--episodes", type=whole(1), default=50, metavar="N", help="episodes (default 50)")
    parser.add_argument("--task", default="all", metavar="NAME", help="one task family or group (default all)")
    parser.add_argument("--split", default="all", metavar="NAME", help="all, train, phrasing or pair (held out)")
    parser.add_argument("--swap", action="store_true", help="change the instruction to another object of the scene")
    parser.add_argument("--variant", type=variant, default="two-speed", metavar="V", help=VARIANT_HELP)
    parser.add_argument(
        "--no-thoughts",
        action="store_const",
        dest="variant",
        const="no-thoughts",
        help="S1 alone: latents stay 'none yet'; the same as --variant no-thoughts",
    )
    _add_delays(parser)
    _add_workers(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results as JSON")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write report.html and its plots there")
    parser.add_argument("--compare", type=existing_file, metavar="FILE", help="JSON of another policy's same episodes")


def _eval(args: argparse.Namespace) -> None:
    if args.json:
        assets.check_file_writable(args.json, "--json")
    if args.report:
        assets.check_folder_writable(args.report, "--report")
    assets.find("policy", args.policy)
    from vla.evaluation.evaluate import EvalOptions, evaluate
    from vla.robots.gym_sim import find_environment
    from vla.runtime.loop import Timing

    find_environment(args.env, args.task, args.split)
    options = EvalOptions(
        task=args.task,
        split=args.split,
        swap=args.swap,
        variant=args.variant,
        timing=Timing(args.s2_delay, args.s2_period, args.s1_delay),
        report=args.report,
        compare=args.compare,
    )
    document = evaluate(args.policy, args.env, args.episodes, args.seed, options, args.workers)
    if args.json:
        _write_json(args.json, document)


def _add_rollout(commands: Any) -> None:
    parser = _command(commands, "rollout", _rollout, "one episode, with S2's words and a video")
    _add_who_and_where(parser)
    parser.add_argument("--instruction", metavar="TEXT", help="what to do (default: the scene's own instruction)")
    parser.add_argument("--video", type=Path, metavar="FILE", help="write an mp4 of both cameras and S2's words")
    _add_delays(parser)
    real = parser.add_argument_group("in wall-clock time", "S2, S1 and a 200 Hz command stream, each in its process.")
    real.add_argument("--real-time", action="store_true", help="on a simulated robot that does not wait for anybody")
    real.add_argument(
        "--out", type=Path, default=Path("outputs/realtime"), metavar="DIR", help="telemetry, default %(default)s"
    )
    robot = parser.add_argument_group("a robot instead of an environment")
    robot.add_argument("--robot", choices=["dds"], help="dds: a ROS 2 robot, without ROS")
    robot.add_argument("--spec", metavar="FILE", help="of the robot, with a ros section: a file or a shipped robot")
    add_dds_options(robot)
    parser.add_argument(
        "--seconds", type=seconds, metavar="S", help="stop after this long (default: the scene ends; real time: 12)"
    )


def _rollout(args: argparse.Namespace) -> None:
    if args.real_time:
        return _rollout_in_real_time(args)
    if args.robot:
        return _rollout_dds(args)
    if args.video:
        assets.check_file_writable(args.video, "--video")
    assets.find("policy", args.policy)
    from vla.evaluation.rollout_command import rollout
    from vla.runtime.loop import Timing

    rollout(
        policy=args.policy,
        env=args.env,
        instruction=args.instruction,
        seed=args.seed,
        video=args.video,
        timing=Timing(args.s2_delay, args.s2_period, args.s1_delay),
    )


def _rollout_in_real_time(args: argparse.Namespace) -> None:
    if args.video or args.s1_delay or args.s2_delay:
        raise UserError("rollout: --video, --s1-delay and --s2-delay are for simulated time, not for --real-time")
    from vla.evaluation.realtime import RealTimeRun
    from vla.evaluation.realtime_rollout import realtime_rollout
    from vla.robots.sim_wires import World
    from vla.runtime.supervisor import RunSettings

    how = RunSettings() if args.s2_period is None else RunSettings(s2_period=args.s2_period)
    world = World(args.env, args.seed, instruction=args.instruction)
    realtime_rollout(RealTimeRun(args.policy, world, args.seconds or 12.0, args.out, how=how))


def _rollout_dds(args: argparse.Namespace) -> None:
    if not args.spec:
        raise UserError("rollout: --robot dds needs --spec, which says the robot's topics")
    if args.video:
        raise UserError("rollout: --video films environments, not robots")
    assets.find("robot", args.spec)
    assets.find("policy", args.policy)
    use_dds_options(args)
    from vla.evaluation.dds_rollout import dds_rollout
    from vla.runtime.loop import Timing

    timing = Timing(args.s2_delay, args.s2_period, args.s1_delay)
    dds_rollout(args.policy, args.spec, args.instruction, args.seed, args.seconds, timing, args.domain)


def _add_sim(commands: Any) -> None:
    add_sim_options(_command(commands, "sim", run_sim, "offer a simulated robot to others"))


def _add_describe(commands: Any) -> None:
    parser = _command(commands, "describe", _describe, "ask S2 about a picture")
    parser.add_argument("--policy", required=True, metavar="P", help="a shipped name, a folder or a hub id")
    parser.add_argument("--image", required=True, type=existing_file, metavar="FILE", help="a picture from the front")
    parser.add_argument("question", help='such as "what is left of the red cube?"')


def _describe(args: argparse.Namespace) -> None:
    assets.find("policy", args.policy)
    from vla.evaluation.describe import describe

    print(describe(args.policy, args.image, args.question))


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", _demo, "ten episodes of the shipped policy, with video and report")
    parser.add_argument("--policy", default="tabletop", metavar="P", help="a shipped name, a folder or a hub id")
    parser.add_argument("--out", type=Path, default=Path("outputs/demo"), metavar="DIR", help="default outputs/demo")


def _demo(args: argparse.Namespace) -> None:
    assets.check_folder_writable(args.out)
    assets.find("policy", args.policy)
    from vla.evaluation.demo import demo

    demo(policy=args.policy, out=args.out)


def _add_serve(commands: Any) -> None:
    parser = _command(commands, "serve", _serve, "offer a policy over a websocket, to openpi's clients too")
    parser.add_argument("--policy", required=True, metavar="P", help="a shipped name, a folder or a hub id")
    parser.add_argument("--port", type=whole(0), default=8000, metavar="N", help="default 8000; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (default %(default)s)")
    parser.add_argument("--api-key-env", metavar="NAME", help="environment variable with the key clients must send")


def _serve(args: argparse.Namespace) -> None:
    key = os.environ.get(args.api_key_env) if args.api_key_env else None
    if args.api_key_env and not key:
        raise UserError(f"serve: the environment variable {args.api_key_env} holds no key")
    folder = assets.find("policy", args.policy)
    try:
        from vla.serve.server import PolicyServer
    except ModuleNotFoundError as error:
        raise UserError(f"serve: Python package {error.name} is missing: pip install 'vla[serve]'") from None
    from vla.tandem import TandemPolicy

    server = PolicyServer(TandemPolicy.from_pretrained(folder), args.host, args.port, key)
    server.run(lambda port: print(f"{args.policy} at ws://{args.host}:{port}, health at /healthz", flush=True))


def _add_teleop(commands: Any) -> None:
    from vla.teleop.command import add_arguments

    add_arguments(_command(commands, "teleop", _teleop, "drive a robot from a browser, and record it"))


def _teleop(args: argparse.Namespace) -> None:
    from vla.teleop.command import TeleopOptions, teleop

    teleop(TeleopOptions(**{name: value for name, value in vars(args).items() if name != "run"}))
def _add_quantize(commands: Any) -> None:
    parser = _command(commands, "quantize", _quantize, "the same policy with S2's linear layers in int8")
    parser.add_argument("--policy", required=True, metavar="P", help="a shipped name, a folder or a hub id")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where it goes")


def _quantize(args: argparse.Namespace) -> None:
    folder = assets.find("policy", args.policy)
    assets.check_folder_writable(args.out)
    from vla.training.quantize import quantize

    print(quantize(folder, args.out))


def _add_spec(commands: Any) -> None:
    about = "check and compare robot specs"
    group = commands.add_parser("spec", help=about, description=f"{about.capitalize()}.")
    kinds = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    what = "a spec file, a dataset, a checkpoint or a shipped robot"
    check = _command(kinds, "check", _spec_check, f"read {what} strictly and sum it up")
    check.add_argument("spec", help=what)
    diff = _command(kinds, "diff", _spec_diff, "print the entries that differ; exit code 1 if any do")
    diff.add_argument("a", help=what)
    diff.add_argument("b", help=what)


def _spec_check(args: argparse.Namespace) -> None:
    from vla.spec import RobotSpec

    spec = RobotSpec.load(assets.find("robot", args.spec))
    spec.check_ros()
    cameras = ", ".join(f"{camera.name} {camera.width}x{camera.height}" for camera in spec.cameras) or "none"
    print(f"{spec.name}: cameras {cameras}; state {spec.state_size}; action {spec.action_size} ({spec.action.mode})")
    limits = "given" if spec.limits else "not given"
    print(f"{spec.rate_hz:g} Hz; gripper {spec.action.gripper or 'none'}; limits {limits}")


def _spec_diff(args: argparse.Namespace) -> int:
    from vla.spec import RobotSpec

    mine, theirs = (RobotSpec.load(assets.find("robot", name)) for name in (args.a, args.b))
    lines = mine.diff(theirs, args.b, ros=True)
    print("\n".join(lines) if lines else "no difference")
    return 1 if lines else 0


def _add_bench(commands: Any) -> None:
    listed = "; ".join(f"{name}: {about}" for name, about in BENCHES.items())
    parser = _command(commands, "bench", _bench, "measure", epilog=listed)
    parser.add_argument("what", type=one_of("bench", BENCHES), metavar="WHAT", help=", ".join(BENCHES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--policy", default="tabletop", metavar="P", help="default tabletop")
    parser.add_argument("--env", type=environment, metavar="E", help="default tabletop-suite; suites: metaworld")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S", help="of the first episode (default 0)")
    parser.add_argument("--tasks", nargs="+", default=[], metavar="NAME", help="latency, suites: these (default all)")
    parser.add_argument("--episodes", type=whole(1), metavar="N", help="a point (latency: 200), or a task (suites: 20)")
    parser.add_argument("--experts", action="store_true", help="suites: play the experts, here and in their own loop")
    parser.add_argument("--scenes", type=whole(1), default=1000, metavar="N", help="words: scenes (default 1000)")
    parser.add_argument("--seconds", type=seconds, metavar="S", help="how long (runtime: 30 of each; dds: 60)")
    doctor = parser.add_argument_group("doctor")
    doctor.add_argument("--trials", type=whole(1), default=3, metavar="N", help="of a fault, size, origin (default 3)")
    doctor.add_argument("--rlds", type=existing_folder, metavar="DIR", help="a third origin: a shipped card's dataset")
    doctor.add_argument("--table", type=Path, metavar="FILE", help="write the results as a Markdown table")
    loader = parser.add_argument_group("loader")
    loader.add_argument("--size", type=whole(64), default=256, metavar="PX", help="side of its pictures (default 256)")
    loader.add_argument("--frames", type=whole(100), default=1000, metavar="N", help="to load, default %(default)s")
    loader.add_argument("--many", type=whole(100), default=1000, metavar="N", help="short episodes (default 1000)")
    latency = parser.add_argument_group("latency")
    latency.add_argument("--peer", metavar="P", help="the same recipe trained at age 0 only, measured beside it")
    latency.add_argument("--out", type=Path, default=Path("outputs/latency"), metavar="D", help="default %(default)s")
    _add_workers(parser)


def _bench(args: argparse.Namespace) -> None:
    if args.json:
        assets.check_file_writable(args.json, "--json")
    env = args.env or ("metaworld" if args.what == "suites" else "tabletop-suite")
    if args.what == "sim":
        from vla.bench.sim import bench_sim

        document = bench_sim()
    elif args.what == "serve":
        from vla.bench.serve import bench_serve

        document = bench_serve(args.policy)
    elif args.what == "runtime":
        from vla.bench.runtime import bench_runtime

        document = bench_runtime(args.policy, args.env, args.seed, args.seconds or 30.0, Path("outputs/runtime"))
    elif args.what == "dds":
        from vla.bench.dds import bench_dds

        document = bench_dds(args.seconds or 60.0)
    elif args.what == "loader":
        from vla.bench.loader import bench_loader

        document = bench_loader(args.size, args.frames // 100, many=args.many, seed=args.seed)
    elif args.what == "actions":
        from vla.bench.actions import bench_actions

        document = bench_actions(env, args.seed)
    elif args.what == "suites" and args.experts:
        from vla.bench.suites import ExpertCheck, bench_experts, expert_tasks

        check = ExpertCheck(env, expert_tasks(env, args.tasks), args.episodes or 20, args.seed)
        document = bench_experts(check, args.workers)
    elif args.what == "suites":
        from vla.evaluation.suites.listing import list_suites

        document = list_suites()
    elif args.what == "doctor":
        from vla.bench.doctor import bench_doctor, table

        if args.table:
            assets.check_file_writable(args.table, "--table")
        document = bench_doctor(DOCTOR_EPISODES, args.trials, args.seed, args.rlds, args.workers)
        print(table(document))
        if args.table:
            args.table.write_text(table(document), encoding="utf-8")
    elif args.what == "words":
        from vla.bench.words import bench_words

        document = bench_words(args.policy, env, args.scenes, args.seed, args.workers)
    else:
        from vla.bench.latency import Study, bench_latency, default_tasks

        tasks = default_tasks(env, args.tasks)
        study = Study(args.policy, args.peer, env, tasks, args.episodes or 200, args.seed)
        document = bench_latency(study, args.out, args.workers)
    if args.json:
        _write_json(args.json, document)


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int | None], about: str, epilog: str | None = None
) -> argparse.ArgumentParser:
    about_sentence = f"{about[0].upper()}{about[1:]}."
    parser = commands.add_parser(name, help=about, description=about_sentence, epilog=epilog, allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def _add_who_and_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", required=True, metavar="P", help="a shipped name, a folder or a hub id")
    parser.add_argument("--env", type=environment, default="tabletop", metavar="NAME", help="default tabletop")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S", help="seed of the first episode (default 0)")


def _add_delays(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--s2-delay", type=seconds, default=0.0, metavar="S", help="seconds per thought (default 0)")
    parser.add_argument("--s2-period", type=seconds, metavar="S", help="seconds between thoughts (default: the delay)")
    parser.add_argument("--s1-delay", type=whole(0), default=0, metavar="STEPS", help="steps per chunk (default 0)")


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=whole(1), default=os.cpu_count(), metavar="W", help="default: one per core")


def _write_json(file: Path, document: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    partial.replace(file)


if __name__ == "__main__":
    sys.exit(main())
