"""`vla data annotate`: its arguments, and who is asked."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla import assets
from vla.cli.arguments import existing_folder, seconds, whole
from vla.cli.common import POLICY, add_command, add_device, refuse
from vla.errors import UserError

if TYPE_CHECKING:
    from vla.data.annotations import Source
    from vla.data.annotators import Annotator
    from vla.data.doctor.recording import Recording


def add(kinds: Any) -> None:
    parser = add_command(kinds, "annotate", _annotate, "put words to recorded episodes: what was done, in which steps")
    parser.add_argument("directory", type=existing_folder, metavar="DIR", help="a LeRobot v3 dataset")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--vlm", metavar="V", help="a vision-language model, hub id or folder, looks at a contact sheet")
    who.add_argument("--policy", metavar="P", help=f"the words of a policy's S2; {POLICY}")
    who.add_argument("--truth", action="store_true", help="what the simulator knew while vla collect recorded")
    parser.add_argument("--episodes", nargs="+", type=whole(0), default=[], metavar="N", help="these (default all)")
    parser.add_argument("--replace", action="store_true", help="ask again where there are words of a model's already")
    add_device(parser)
    vlm = parser.add_argument_group("--vlm")
    vlm.add_argument("--camera", metavar="NAME", help="whose pictures (default: the first that stands still)")
    vlm.add_argument("--frames", type=whole(1), default=12, metavar="N", help="on a sheet (default %(default)s)")
    vlm.add_argument("--tries", type=whole(1), default=3, metavar="N", help="for a usable answer (default %(default)s)")
    vlm.add_argument("--tokens", type=whole(1), default=512, metavar="N", help="longest answer (default %(default)s)")
    policy = parser.add_argument_group("--policy")
    policy.add_argument("--every", type=seconds, default=0.25, metavar="S", help="seconds between looks (default 0.25)")


def _annotate(args: argparse.Namespace) -> int:
    if not args.vlm:
        refuse(args, "is for --vlm", "camera", "frames", "tries", "tokens")
    if not args.policy:
        refuse(args, "is for --policy", "every")
    if args.truth:
        refuse(args, "is for --vlm and --policy", "device")
    if args.policy:
        assets.find("policy", args.policy)
    from vla.data.annotate import annotate
    from vla.data.doctor.recording import Recording

    recording = Recording.open(args.directory)
    annotator, source = (_vlm if args.vlm else _policy if args.policy else _truth)(args, recording)
    done = annotate(recording, annotator, source, args.replace, args.episodes)
    for number, why in done.skipped:
        print(f"vla: episode {number} skipped: {why}", file=sys.stderr)
    there = f", {done.kept} were there" if done.kept else ""
    print(
        f"{done.annotated} episodes annotated, {len(done.skipped)} skipped{there}; see vla data view {args.directory}"
    )
    return 1 if done.skipped and not done.annotated else 0


def _truth(_: argparse.Namespace, recording: Recording) -> tuple[Annotator, Source]:
    import vla
    from vla.data.annotations import Source
    from vla.data.annotators import TruthAnnotator

    return TruthAnnotator(recording), Source(
        "truth", str(recording.info.get("robot_type") or "simulator"), vla.__version__
    )


def _vlm(args: argparse.Namespace, recording: Recording) -> tuple[Annotator, Source]:
    from vla.data.annotations import Source
    from vla.data.annotators import SheetAnnotator

    camera = args.camera or _fixed_camera(recording)
    _check_cameras(recording, (camera,))
    from vla.s2.chat import Chat
    from vla.training.precision import device_named

    chat = Chat(args.vlm, device_named(args.device))
    annotator = SheetAnnotator(lambda sheet, text: chat.ask(sheet, text, args.tokens), camera, args.frames, args.tries)
    return annotator, Source("vlm", args.vlm, chat.version)


def _policy(args: argparse.Namespace, recording: Recording) -> tuple[Annotator, Source]:
    import numpy as np
    import torch

    from vla.data.annotations import Source
    from vla.data.annotators import SpokenAnnotator
    from vla.evaluation.describe import MAX_WORDS
    from vla.s2.hub import version_of
    from vla.s2.places import plain_words
    from vla.s2.system import SlowSystem
    from vla.tandem import SLOW_FOLDER
    from vla.training.precision import device_named

    folder = Path(assets.find("policy", args.policy)) / SLOW_FOLDER
    slow = SlowSystem.from_pretrained(folder).to(device_named(args.device))
    cameras = slow.config.cameras
    _check_cameras(recording, cameras)

    def say(pictures: Mapping[str, Any], task: str) -> list[str]:
        views = torch.from_numpy(np.stack([np.stack(pictures[camera]) for camera in cameras], axis=1))
        prompt = slow.config.words_prompt.format(task)
        said = [slow.speak(part, [prompt] * len(part), MAX_WORDS) for part in views.split(32)]
        return [plain_words(text) for part in said for text in part]

    return SpokenAnnotator(say, cameras, args.every), Source("policy", args.policy, version_of(folder))


def _fixed_camera(recording: Recording) -> str:
    from vla.data.lerobot_v3 import IMAGES

    fixed = [camera.name for camera in (recording.spec.cameras if recording.spec else ()) if camera.mount == "fixed"]
    names = [*fixed, *(key.removeprefix(IMAGES) for key in recording.cameras)]
    if not names:
        raise UserError(f"dataset {recording.root}: no camera, so there is nothing to look at; --truth needs none")
    return names[0]


def _check_cameras(recording: Recording, cameras: tuple[str, ...]) -> None:
    from vla.data.lerobot_v3 import IMAGES

    names = [key.removeprefix(IMAGES) for key in recording.cameras]
    missing = [camera for camera in cameras if camera not in names]
    if missing:
        raise UserError(f"dataset {recording.root}: no camera {missing[0]}; it has {', '.join(names) or 'none'}")
