"""`vla teleop`: a robot, a device, a recorder and perhaps a policy, put together."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vla import assets
from vla.errors import UserError
from vla.extras import RECORDING, need
from vla.policies import REAL_TIME_PATIENCE_S, load_policy
from vla.teleop.devices import HEARTBEAT_S

if TYPE_CHECKING:  # loads mujoco, before rendering is chosen
    from vla.data.live import LiveRecorder, LiveStatus
    from vla.robots.base import Robot
    from vla.spec import RobotSpec
    from vla.teleop.bodies import BodyChoice
    from vla.teleop.control import SessionSettings
    from vla.teleop.devices import Device
    from vla.teleop.moment import Moment
    from vla.teleop.session import Session


@dataclass(frozen=True)
class TeleopOptions:
    """As on the command line. reserve_gb: of the disk, that stay free."""

    robot: str
    device: str
    out: Path
    seed: int
    policy: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    operator: str = ""
    heartbeat: float = HEARTBEAT_S
    preroll: float = 0.5
    reserve_gb: float = 1.0
    spec: str | None = None
    robot_config: tuple[str, ...] = ()
    device_config: tuple[str, ...] = ()
    device_units: Literal["deg", "rad"] = "deg"
    speed: float = 1.0
    episodes: int = 50
    domain: int | None = None
    instruction: str = ""
    policy_device: str = "cpu"


def teleop(options: TeleopOptions) -> None:
    """Run a session until it is ended, then add its takes to the dataset. Raises UserError for what cannot be done."""
    need("data", *RECORDING)
    out = options.out.resolve()
    assets.check_folder_writable(out.parent, "--out")
    if out.is_mount():
        raise UserError(f"teleop: --out {out} is a mount point and cannot be renamed; give a folder inside it")
    from vla.robots.gym_sim import check_rendering

    check_rendering()
    from vla.data.live import LiveRecorder, LiveSettings
    from vla.data.publish import live_folder, next_number
    from vla.teleop.bodies import choose_body
    from vla.teleop.control import SessionSettings
    from vla.teleop.mapping import Scaling
    from vla.teleop.session import Session

    body = choose_body(options)
    _ = body.spec.fps  # UserError before anything moves
    policy = None
    if options.policy:
        policy = load_policy(options.policy, REAL_TIME_PATIENCE_S, body.spec, options.policy_device)
    reserve = int(options.reserve_gb * 1e9)
    with ExitStack() as stack:

        def begin(device: str) -> tuple[LiveRecorder, SessionSettings]:
            live = LiveSettings(options.operator or _login(), device, options.preroll, reserve=reserve)
            recorder = stack.enter_context(LiveRecorder(out, body.spec, live))
            settings = SessionSettings(
                options.seed + next_number(out),
                options.heartbeat,
                Scaling().times(options.speed),
                policy_name=options.policy or "",
                instruction=options.instruction,
                paced=body.paced,
                priority=body.priority,
            )
            return recorder, settings

        if options.device == "scripted":
            from vla.teleop.scripted import operate

            recorder, settings = begin(options.device)
            operate(options.robot, options.episodes, recorder, policy, settings)
        else:
            front = stack.enter_context(_front(options, body, policy is not None))
            recorder, settings = begin(front.device.name)
            session = Session(body.make, front.device, recorder, policy, settings, front.on_step)
            stack.callback(session.close)
            session.start()
            try:
                front.run(session, recorder)
            except BaseException:
                if recorder.status().takes:
                    kept = f"{len(recorder.status().takes)} takes are safe in {live_folder(out)}"
                    print(f"vla: {kept}; the next session writes them", file=sys.stderr, flush=True)
                raise
    _publish(out, body.spec, recorder.status())


def _publish(out: Path, spec: RobotSpec, status: LiveStatus) -> None:
    from vla.data.publish import publish
    from vla.data.workers import progress_bar

    takes = status.takes
    if status.recording:
        print(f"the open take ({status.frames} steps) was not ended: it is thrown away", flush=True)
    if takes:
        print(f"writing {len(takes)} takes; if this is interrupted, the next session does it", flush=True)
    with progress_bar("writing", sum(kept.take.frames for kept in takes)) as advance:
        count = publish(out, spec, advance)
    print(f"{count} takes added to {out}" if count else "no takes were kept")


@dataclass(frozen=True)
class _Front:
    """What the operator has before them. run: until the session is to end. on_step: as `Session` has it."""

    device: Device
    run: Callable[[Session, LiveRecorder], None]
    on_step: Callable[[Robot, Moment], None] | None = None


@contextmanager
def _front(options: TeleopOptions, body: BodyChoice, has_policy: bool) -> Iterator[_Front]:
    if options.device == "web":
        with _web_front(options, body, has_policy) as front:
            yield front
        return
    from vla.teleop.console import drive
    from vla.teleop.local import open_device

    device = open_device(options, body.spec)
    try:
        print(f"{device.about}\nCtrl-C ends the session and writes its takes into {options.out}", flush=True)
        yield _Front(device, lambda session, recorder: drive(session, recorder, device, body.spec.rate_hz))
    finally:
        device.close()


@contextmanager
def _web_front(options: TeleopOptions, body: BodyChoice, has_policy: bool) -> Iterator[_Front]:
    try:
        from vla.teleop.cockpit import Cockpit, WebDevice
        from vla.teleop.console import ending_signals
    except ModuleNotFoundError as error:
        raise UserError(f"teleop: Python package {error.name} is missing: pip install 'vla[teleop]'") from None
    device, pictures = WebDevice(), body.pictures()
    about = {**about_robot(body.spec), "has_policy": has_policy}

    def run(session: Session, recorder: LiveRecorder) -> None:
        cockpit = Cockpit(session, recorder, device, pictures, options.host, options.port, about)
        with ending_signals() as (ending, _):
            asyncio.run(cockpit.serve(lambda _: _welcome(cockpit.url, options), ending))

    try:
        yield _Front(device, run, pictures.offer)
    finally:
        pictures.close()


def _welcome(url: str, options: TeleopOptions) -> None:
    print(f"Open {url}\nCtrl-C ends the session and writes its takes into {options.out}", flush=True)
    if options.host not in ("127.0.0.1", "::1", "localhost"):
        told = "anyone who can listen on this network can read the address's token: prefer an SSH tunnel to loopback"
        print(f"vla: {told}", file=sys.stderr, flush=True)


def about_robot(spec: Any) -> dict[str, Any]:
    """What the page must know of the robot."""
    joints = range(spec.state_size)[spec.state_slices.get("joint_position", slice(0))]
    unit = next((field.unit for field in spec.state if field.name == "joint_position"), "")
    return {"robot": spec.name, "hz": spec.rate_hz, "joints_at": list(joints), "joints_unit": unit}


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return ""
