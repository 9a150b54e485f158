"""`vla collect`, and what `vla data` does to datasets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla import assets
from vla.cli import annotation, loading
from vla.cli.arguments import environment, existing, existing_folder, whole
from vla.cli.common import (
    add_command,
    add_device,
    add_group,
    add_training_seed,
    add_workers,
    check_outputs,
    refuse,
    write_json,
)
from vla.errors import UserError
from vla.extras import RECORDING, need
from vla.policies import device_of
from vla.processes import default_workers

if TYPE_CHECKING:
    from vla.spec import RobotSpec


def add(commands: Any) -> None:
    _add_collect(commands)
    kinds = add_group(commands, "data", "bring in datasets that others recorded, examine them, make them ready")
    _add_imports(add_group(kinds, "import", "into a LeRobot v3 dataset", "formats", "FORMAT"))
    loading.add(kinds)
    _add_doctor(kinds)
    _add_view(kinds)
    annotation.add(kinds)
    _add_exports(add_group(kinds, "export", "from a LeRobot v3 dataset", "formats", "FORMAT"))


def _add_collect(commands: Any) -> None:
    parser = add_command(commands, "collect", _collect, "record episodes and still scenes into a dataset")
    parser.add_argument("--env", required=True, type=environment, metavar="NAME", help="environment, such as tabletop")
    parser.add_argument("--episodes", type=whole(0), default=0, metavar="N", help="episodes to record (default 0)")
    parser.add_argument("--stills", type=whole(0), default=0, metavar="N", help="still scenes with words (default 0)")
    add_training_seed(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the dataset; goes on if interrupted")
    parser.add_argument("--task", default="all", metavar="NAME", help="one task family (default all)")
    parser.add_argument("--policy", metavar="P", help="who acts: a policy instead of the scripted experts")
    parser.add_argument(
        "--corrected",
        action="store_true",
        help="with --policy: it drives for a while, then the expert, who is recorded",
    )
    add_device(parser)
    parser.add_argument("--steady", action="store_true", help="the experts' hand neither trembles nor slips")
    add_workers(parser)


def _collect(args: argparse.Namespace) -> None:
    if args.episodes + args.stills == 0:
        raise UserError("collect: nothing to do; give --episodes N or --stills N")
    assets.check_folder_writable(args.out)
    policy = str(assets.find("policy", args.policy)) if args.policy else None
    from vla.data.collect import collect
    from vla.robots.gym_sim import find_environment

    find_environment(args.env, args.task)
    where = device_of(policy, args.device) if policy else "cpu"
    collect(
        env=args.env,
        episodes=args.episodes,
        seed=args.seed,
        out=args.out,
        policy=policy,
        workers=args.workers or default_workers(where),
        task=args.task,
        stills=args.stills,
        corrected=args.corrected,
        steady=args.steady,
        device=args.device,
    )


def _add_imports(formats: Any) -> None:
    rlds = add_command(formats, "rlds", _import_rlds, "a directory of TensorFlow Datasets, without TensorFlow")
    rlds.add_argument("directory", type=existing_folder, metavar="DIR", help="the one with features.json")
    _add_card(rlds, "one split, such as train (default: all)")
    hdf5 = add_command(formats, "hdf5", _import_hdf5, "HDF5 files as robomimic, LIBERO, ACT and ALOHA write them")
    hdf5.add_argument("path", type=existing, metavar="FILE_OR_DIR", help="a file, or a folder of .hdf5 files")
    _add_card(hdf5, "one mask of robomimic's, such as train (default: all)")
    hdf5.add_argument("--instruction", default="", metavar="TEXT", help="what is done, where the files do not say")
    bag = add_command(formats, "rosbag2", _import_rosbag2, "ROS 2 bags, MCAP or sqlite3, without ROS")
    bag.add_argument("bag", type=Path, metavar="BAG", help="its folder, one .mcap or .db3 file, or a folder of bags")
    bag.add_argument("--spec", required=True, metavar="FILE", help="of the robot, with a ros section")
    bag.add_argument("--out", required=True, type=Path, metavar="OUT", help="the dataset")
    bag.add_argument("--instruction", metavar="TEXT", help="what is done, if a bag does not say")


def _add_card(parser: argparse.ArgumentParser, split: str) -> None:
    """What importing by a card needs; split: about that option."""
    parser.add_argument("--card", required=True, metavar="NAME", help="what its numbers mean: a shipped name or a file")
    parser.add_argument("--out", required=True, type=Path, metavar="OUT", help="the dataset; goes on if interrupted")
    parser.add_argument("--split", metavar="NAME", help=split)
    add_workers(parser)


def _import_rlds(args: argparse.Namespace) -> None:
    need("data", *RECORDING, "datasketches")
    from vla.data.rlds.importer import import_rlds

    import_rlds(args.directory, args.card, args.out, split=args.split, workers=args.workers or default_workers())


def _import_hdf5(args: argparse.Namespace) -> None:
    need("data", *RECORDING, "datasketches", "h5py")
    from vla.data.hdf5.importer import import_hdf5

    import_hdf5(args.path, args.card, args.out, args.split, args.instruction, args.workers or default_workers())


def _import_rosbag2(args: argparse.Namespace) -> None:
    need("data", *RECORDING, "rosbags")
    from vla.data.rosbag2.importer import import_rosbag2

    import_rosbag2(args.bag, args.spec, args.out, task=args.instruction)


def _add_exports(formats: Any) -> None:
    bag = add_command(formats, "rosbag2", _export_rosbag2, "the bag that its robot would have recorded")
    bag.add_argument("dataset", type=existing_folder, metavar="DATASET", help="a LeRobot v3 dataset")
    bag.add_argument("--out", required=True, type=Path, metavar="BAG", help="the bag, a new folder")
    bag.add_argument("--spec", metavar="FILE", help="with the topics (default: the dataset's own)")
    bag.add_argument("--storage", choices=["mcap", "sqlite3"], default="mcap", help="default mcap")


def _export_rosbag2(args: argparse.Namespace) -> None:
    need("data", "pyarrow", "rosbags")
    from vla.data.rosbag2.exporter import export_rosbag2

    export_rosbag2(args.dataset, args.out, args.spec, args.storage)


def _add_doctor(kinds: Any) -> None:
    about = "find and explain what is wrong with a dataset; exit code 1 if anything is"
    parser = add_command(kinds, "doctor", _doctor, about)
    parser.add_argument("directory", type=existing_folder, metavar="DIR", help="a LeRobot v3 dataset")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write an HTML page with a picture of each")
    parser.add_argument("--replay", action="store_true", help="drive the recorded actions through the simulator")
    parser.add_argument(
        "--env", type=environment, default="tabletop", metavar="E", help="of --replay (default tabletop)"
    )
    add_device(parser)
    parser.add_argument("--policy", metavar="P", help="compare what this policy would do with what was recorded")
    parser.add_argument(
        "--episodes",
        type=whole(1),
        default=20,
        metavar="N",
        help="of --replay and --policy, evenly chosen (default 20)",
    )


def _doctor(args: argparse.Namespace) -> int:
    if not args.replay:
        refuse(args, "is for --replay", "env")
    if not args.policy:
        refuse(args, "is for --policy", "device")
    if not (args.replay or args.policy):
        refuse(args, "is for --replay and --policy", "episodes")
    check_outputs(json=args.json, page=args.page)
    if args.policy:
        assets.find("policy", args.policy)
    from vla.data.doctor.visit import Visit, visit

    def simulator(spec: RobotSpec) -> Any:
        from vla.robots.replayed import ReplayedArm

        return ReplayedArm(args.env, spec)

    def predictor(spec: RobotSpec) -> Any:
        from vla.policies import load_here

        tandem = load_here(args.policy, spec, args.device)
        return lambda images, state, text: tandem.act(images, state, tandem.think(images, text, 0.0), 0.0)

    asked = Visit(args.directory, args.page, args.episodes)
    done = visit(asked, simulator if args.replay else None, predictor if args.policy else None)
    if args.json:
        write_json(args.json, done)
    return 1 if done["findings"] else 0


def _add_view(kinds: Any) -> None:
    parser = add_command(kinds, "view", _view, "look at a dataset: a page of frames, plots and text, or a rerun file")
    parser.add_argument("directory", type=existing_folder, metavar="DIR", help="a LeRobot v3 dataset")
    parser.add_argument("--episode", type=whole(0), metavar="N", help="one episode (default: the first three)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="default DIR's name with .html, here")
    parser.add_argument("--rerun", type=Path, metavar="FILE", help="write an .rrd file instead, for the rerun viewer")


def _view(args: argparse.Namespace) -> None:
    if args.rerun:
        refuse(args, "is not written beside --rerun", "html")
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
