"""A policy on the simulated robot in wall-clock time: what `vla rollout --real-time` and its benchmark share."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from jaxtyping import Float

from vla import assets
from vla.errors import UserError
from vla.evaluation.run_plot import plot_run
from vla.processes import Maker
from vla.robots.realtime_sim import RealTimeSim
from vla.robots.sim_body import DT, read_log
from vla.robots.sim_wires import BodySettings, World
from vla.runtime.run_telemetry import RunTelemetry
from vla.runtime.supervisor import RunSettings, Supervisor
from vla.spec import RobotSpec

_LOOK_EVERY = 0.1


@dataclass(frozen=True)
class RealTimeRun:
    """seconds: how long at most. until_done: end when the task is. out: folder for telemetry.jsonl, the body's log and
    run.png.
    """

    policy: str
    world: World
    seconds: float
    out: Path
    until_done: bool = True
    how: RunSettings = field(default_factory=RunSettings)
    body: BodySettings = field(default_factory=BodySettings)


@dataclass(frozen=True)
class RunResult:
    """receipts: when the robot received each command (s). body: the last it said of itself."""

    telemetry: RunTelemetry
    receipts: Float[np.ndarray, " R"]
    body: Any
    instruction: str


def loader(policy: str, robot: RobotSpec) -> Maker:
    """How the processes of S1 and S2 load a shipped policy, a folder or a hub id. UserError if there is none."""
    folder = str(assets.find("policy", policy))
    return Maker("vla.tandem:TandemPolicy.from_pretrained", {"folder": folder, "robot": robot})


def run_in_real_time(run: RealTimeRun, show: Callable[[RunTelemetry, Any], None] | None = None) -> RunResult:
    """Start everything, drive, stop everything. show: called ten times a second with what was measured so far.

    Ctrl-C and SIGTERM bring the robot to rest and end every process. Raises UserError as the parts do.
    """
    assets.find("policy", run.policy)
    assets.check_folder_writable(run.out)
    log = run.out / "body"
    robot = RealTimeSim(run.world, replace(run.body, log=str(log)))
    policy = loader(run.policy, robot.spec)
    with _terminated_as_interrupted(), Supervisor(policy, robot, run.how) as supervisor:
        telemetry = RunTelemetry(run.out / "telemetry.jsonl")
        try:
            instruction = run.world.instruction or robot.state().instruction
            supervisor.instruct(instruction)
            while time.monotonic() < telemetry.began + run.seconds:
                body = robot.state()
                if not robot.body.alive:
                    raise UserError(f"the simulated body died: {body.error or robot.body.exitcode}")
                telemetry.add(supervisor.watch(), {"body": vars(body)})
                if body.instruction != instruction and run.world.instruction is None:
                    instruction = body.instruction  # the scene asks for something else
                    supervisor.instruct(instruction)
                if show is not None:
                    show(telemetry, body)
                if run.until_done and body.solved_s is not None:
                    break
                time.sleep(_LOOK_EVERY)
        finally:
            telemetry.close()
    receipts = read_log(log, robot.spec)[0][:, 0]
    plot_run(run.out / "run.png", telemetry, receipts, DT)
    return RunResult(telemetry, receipts, robot.state(), instruction)


def receipt_periods(receipts: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R-1"]:
    """Milliseconds between commands, as the robot received them."""
    return 1e3 * np.diff(receipts)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM unwinds the stack as Ctrl-C does, so that processes are ended in order."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
