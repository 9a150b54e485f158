"""A policy on the simulated robot in wall-clock time: what `vla rollout --real-time` and its benchmark share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vla import assets
from vla.evaluation.run_plot import plot_run
from vla.policies import policy_maker
from vla.processes import terminated_as_interrupted
from vla.robots.realtime_sim import RealTimeSim
from vla.robots.sim_body import read_log
from vla.robots.sim_wires import DT, BodySettings, BodyState, World
from vla.runtime.clock import EPSILON
from vla.runtime.run_telemetry import RunTelemetry
from vla.runtime.supervisor import RunSettings, Supervisor

_LOOK_EVERY = 0.1


@dataclass(frozen=True)
class RealTimeRun:
    """seconds: how long at most, in the robot's own time. until_done: end when the task is. out: folder for
    telemetry.jsonl, the body's log and run.png. device: of the policy, as `load_policy` takes it.
    """

    policy: str
    world: World
    seconds: float
    out: Path
    until_done: bool = True
    how: RunSettings = field(default_factory=RunSettings)
    body: BodySettings = field(default_factory=BodySettings)
    device: str = "cpu"


@dataclass(frozen=True)
class RunResult:
    """receipts: when the robot received each command (s). body: the last it said of itself. limit_s: what
    `RealTimeRun.seconds` was. lost: what could not be written down, and why: a full disk does not end the run.
    """

    telemetry: RunTelemetry
    receipts: Float[np.ndarray, " R"]
    body: BodyState
    instruction: str
    limit_s: float
    lost: tuple[str, ...] = ()

    @property
    def solved_s(self) -> float | None:
        """When the task was done, in seconds of the robot's time since it was asked for; None if not in time."""
        solved = self.body.solved_s
        return None if solved is None or solved > self.limit_s + EPSILON else solved

    @property
    def lasted_s(self) -> float:
        """How long that took, or it was tried."""
        return min(self.body.age_s, self.limit_s) if self.solved_s is None else self.solved_s


def run_in_real_time(run: RealTimeRun, show: Callable[[RunTelemetry, Any], None] | None = None) -> RunResult:
    """Start everything, drive, stop everything. show: called ten times a second with what was measured so far.

    Ctrl-C, SIGTERM and a hang-up bring the robot to rest and end every process. Raises UserError as the parts do.
    """
    assets.check_folder_writable(run.out)
    log = run.out / "body"
    robot = RealTimeSim(run.world, replace(run.body, log=str(log)))
    policy = policy_maker(run.policy, robot.spec, run.device)
    with terminated_as_interrupted(), Supervisor(policy, robot, run.how) as supervisor:
        telemetry = RunTelemetry(run.out / "telemetry.jsonl")
        try:
            body = robot.begin()
            instruction = run.world.instruction or body.instruction
            supervisor.instruct(instruction)
            while body.age_s < run.seconds:
                body = robot.state()
                robot.check()
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
    body = robot.state()
    lost = [telemetry.lost] if telemetry.lost else []
    if body.log_lost:
        lost.append(f"the robot's log ends early: {body.log_lost}")
    try:
        plot_run(run.out / "run.png", telemetry, receipts, DT)
    except OSError as error:
        lost.append(f"run.png is not whole: {error.strerror or error}")
    return RunResult(telemetry, receipts, body, instruction, run.seconds, tuple(lost))


def receipt_periods(receipts: Float[np.ndarray, " R"]) -> Float[np.ndarray, " R-1"]:
    """Milliseconds between commands, as the robot received them."""
    return 1e3 * np.diff(receipts)
