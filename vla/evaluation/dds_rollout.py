"""`vla rollout --robot dds`: one episode of a policy on a robot that is reached over DDS."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from vla import assets
from vla.errors import UserError
from vla.policies import load_policy
from vla.processes import interruption_noted
from vla.robots.dds import DdsRobot
from vla.runtime.loop import Policy, Timing
from vla.runtime.variants import build_loop
from vla.spec import RobotSpec


@dataclass(frozen=True)
class DdsResult:
    """What came of it. success: None if the robot does not say. events: what went wrong and was overcome."""

    instruction: str
    steps: int
    success: bool | None
    late: int
    events: tuple[str, ...]


def dds_rollout(
    policy: str,
    spec: str,
    instruction: str | None = None,
    seed: int = 0,
    seconds: float | None = None,
    timing: Timing | None = None,
    domain: int | None = None,
    loaded: Policy | None = None,
    patience: float = 5.0,
) -> DdsResult:
    """As `dds_episode`, with a policy by name unless it is `loaded`; prints one line, and what went wrong."""
    robot_spec = RobotSpec.load(assets.find("robot", spec))
    driver = loaded or load_policy(policy, robot=robot_spec)
    result = dds_episode(driver, robot_spec, instruction, seed, seconds, timing, domain, patience)
    for event in result.events:
        print(f"vla: {event}", file=sys.stderr)
    how = {True: "success", False: "no success", None: "done"}[result.success]
    late = f", {result.late} late" if result.late else ""
    print(f"{how} after {result.steps} steps{late}: {result.instruction}")
    return result


def dds_episode(
    policy: Policy,
    spec: RobotSpec,
    instruction: str | None = None,
    seed: int = 0,
    seconds: float | None = None,
    timing: Timing | None = None,
    domain: int | None = None,
    patience: float = 5.0,
) -> DdsResult:
    """Follow `instruction`, or a simulated scene's own, until success or for `seconds`.

    seed: of a simulated scene. seconds: None leaves it to the simulated scene. patience: as in `DdsRobot`. Raises
    UserError if the policy was trained for another robot, or the robot is not there.
    """
    import torch

    torch.manual_seed(seed)
    with DdsRobot(spec, domain, patience) as robot:
        robot.reset(seed)
        if instruction and instruction != robot.instruction:
            robot.set_instruction(instruction)
        wanted = instruction or robot.instruction
        if not wanted:
            raise UserError("rollout: this robot has no task of its own; give --instruction")
        steps = robot.outcome.max_steps if seconds is None else math.ceil(seconds * spec.rate_hz)
        if not steps:
            raise UserError("rollout: this robot ends no episode of its own; give --seconds")
        loop = build_loop("two-speed", policy, robot, timing or Timing())
        with interruption_noted() as interrupted, torch.inference_mode():
            trace = loop.run(lambda: robot.instruction or wanted, steps, lambda: robot.finished or interrupted())
        success = robot.success if robot.outcome.max_steps else None
        return DdsResult(wanted, trace.steps, success, robot.late, tuple(robot.events))
