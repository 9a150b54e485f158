"""`vla rollout --robot dds`: one episode of a policy on a robot that is reached over DDS."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from vla import assets
from vla.errors import UserError
from vla.policies import load_policy
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
    """Follow `instruction`, or a simulated scene's own, until success or for `seconds`; print one line about it.

    seed: of a simulated scene. seconds: None leaves it to the simulated scene. `loaded` is used instead of loading
    `policy`. patience: as in `DdsRobot`. Raises UserError if the policy was trained for another robot, or the robot is
    not there.
    """
    import torch

    robot_spec = RobotSpec.load(assets.find("robot", spec))
    driver = loaded or load_policy(policy, robot=robot_spec)
    torch.manual_seed(seed)
    with DdsRobot(robot_spec, domain, patience) as robot:
        robot.reset(seed)
        if instruction and instruction != robot.instruction:
            robot.set_instruction(instruction)
        wanted = instruction or robot.instruction
        if not wanted:
            raise UserError("rollout: this robot has no task of its own; give --instruction")
        steps = robot.outcome.max_steps if seconds is None else math.ceil(seconds * robot_spec.rate_hz)
        if not steps:
            raise UserError("rollout: this robot ends no episode of its own; give --seconds")
        loop = build_loop("two-speed", driver, robot, timing or Timing())
        with torch.inference_mode():
            trace = loop.run(lambda: robot.instruction or wanted, steps, lambda: robot.finished)
        success = robot.success if robot.outcome.max_steps else None
        result = DdsResult(wanted, trace.steps, success, robot.late, tuple(robot.events))
    for event in result.events:
        print(f"vla: {event}", file=sys.stderr)
    how = {True: "success", False: "no success", None: "done"}[result.success]
    late = f", {result.late} late" if result.late else ""
    print(f"{how} after {result.steps} steps{late}: {result.instruction}")
    return result
