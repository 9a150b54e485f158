"""`vla teleop`: a robot, a device, a recorder and perhaps a policy, put together."""

from __future__ import annotations

import asyncio
import getpass
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla import assets
from vla.errors import UserError


@dataclass(frozen=True)
class TeleopOptions:
    """As on the command line. reserve_gb: of the disk, that stay free."""

    robot: str
    device: str
    out: Path
    policy: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    operator: str = ""
    heartbeat: float = 0.2
    preroll: float = 0.5
    reserve_gb: float = 1.0


def teleop(options: TeleopOptions) -> None:
    """Run a session until it is ended, then add its takes to the dataset. Raises UserError for what cannot be done."""
    out = options.out.resolve()
    assets.check_folder_writable(out.parent, "--out")
    from vla.robots.gym_sim import check_rendering, find_environment, make_robot

    check_rendering()  # before anything imports mujoco, which chooses how to render once and for all
    try:
        from vla.teleop.cockpit import Cockpit, WebDevice
    except ModuleNotFoundError as error:
        raise UserError(f"teleop: Python package {error.name} is missing: pip install 'vla[teleop]'") from None
    from vla.data.live import LiveRecorder, LiveSettings
    from vla.data.publish import next_number, publish
    from vla.data.workers import progress_bar
    from vla.spec import RobotSpec
    from vla.teleop.control import SessionSettings
    from vla.teleop.pictures import TwinPictures
    from vla.teleop.session import Session

    spec = RobotSpec.load(assets.find("robot", find_environment(options.robot).robot))
    policy = _load_policy(options.policy, spec) if options.policy else None
    reserve = int(options.reserve_gb * 1e9)
    live = LiveSettings(options.operator or _login(), options.device, options.preroll, reserve=reserve)
    with LiveRecorder(out, spec, live) as recorder:
        device = WebDevice()
        pictures = TwinPictures(options.robot)
        first = options.seed + next_number(out)
        settings = SessionSettings(first, options.heartbeat, policy_name=options.policy or "")
        session = Session(lambda: make_robot(options.robot), device, recorder, policy, settings, pictures.offer)
        try:
            session.start()
            about = {**about_robot(spec), "has_policy": policy is not None}
            cockpit = Cockpit(session, recorder, device, pictures, options.host, options.port, about)
            asyncio.run(cockpit.serve(lambda _: _welcome(cockpit, options)))
        finally:
            session.close()
            pictures.close()
    takes = recorder.status().takes
    if takes:
        print(f"writing {len(takes)} takes; if this is interrupted, the next session does it", flush=True)
    with progress_bar("writing", sum(kept.take.frames for kept in takes)) as advance:
        count = publish(out, spec, advance)
    print(f"{count} takes added to {out}" if count else "no takes were kept")


def _welcome(cockpit: Any, options: TeleopOptions) -> None:
    print(f"Open {cockpit.url}\nCtrl-C ends the session and writes its takes into {options.out}", flush=True)
    if options.host not in ("127.0.0.1", "::1", "localhost"):
        told = "anyone who can listen on this network can read the address's token: prefer an SSH tunnel to loopback"
        print(f"vla: {told}", file=sys.stderr, flush=True)


def about_robot(spec: Any) -> dict[str, Any]:
    """What the page must know of the robot."""
    joints = range(spec.state_size)[spec.state_slices["joint_position"]]
    return {"robot": spec.name, "hz": spec.rate_hz, "joints_at": list(joints)}


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return ""


def _load_policy(name: str, robot: Any) -> Any:
    folder = assets.find("policy", name)
    from vla.tandem import TandemPolicy

    return TandemPolicy.from_pretrained(folder, robot=robot)
