"""`vla rollout --robot dds`: one episode of a policy on a robot that is reached over DDS."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

from vla import assets
from vla.errors import UserError
from vla.evaluation.robot_episode import Episode, EpisodeSettings, Progress
from vla.policies import PATIENCE_S, REAL_TIME_PATIENCE_S, load_policy
from vla.processes import interruption_noted
from vla.robots.dds import DdsRobot
from vla.runtime.loop import Policy, Timing
from vla.runtime.threaded_pilot import LONGEST_AGE_S
from vla.runtime.variants import build_loop
from vla.spec import RobotSpec


@dataclass(frozen=True)
class DdsResult:
    """What came of it.

    instruction: the last. success: None if the robot does not say. events: what went wrong and was overcome. counts: in
    real time, of steps in which the robot held, and of what the gate enforced.
    """

    instruction: str
    steps: int
    success: bool | None
    late: int
    events: tuple[str, ...]
    counts: Mapping[str, int]


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
    device: str = "cpu",
) -> DdsResult:
    """As `dds_episode`, with a policy by name unless it is `loaded`; prints one line, and what went wrong."""
    robot_spec = RobotSpec.load(assets.find("robot", spec))
    waits = PATIENCE_S if DdsRobot(robot_spec).has_scenes else REAL_TIME_PATIENCE_S  # a simulated one may, in lockstep
    driver = loaded or load_policy(policy, waits, robot_spec, device)
    result = dds_episode(driver, robot_spec, instruction, seed, seconds, timing, domain, patience)
    for event in result.events:
        print(f"vla: {event}", file=sys.stderr)
    how = {True: "success", False: "no success", None: "done"}[result.success]
    late = f", {result.late} late" if result.late else ""
    counts = ", ".join(f"{what} {count}" for what, count in result.counts.items() if count)
    print(f"{how} after {result.steps} steps{late}: {result.instruction}{counts and f'; {counts}'}")
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

    A robot in lockstep is driven on its own time; any other in real time, and one without scenes, a real one, through
    the safety gate. seed: of a simulated scene. seconds: None leaves it to the simulated scene. patience: as in
    `DdsRobot`. Raises UserError if the policy was trained for another robot or fails, the robot is not there or loses
    its senses, or the gate stops it.
    """
    timing = timing or Timing()
    with DdsRobot(spec, domain, patience) as robot:
        if seed and not robot.has_scenes:
            raise UserError("rollout: --seed is for simulated robots; this one has no scenes")
        robot.reset(seed)
        if instruction and instruction != robot.instruction:
            robot.set_instruction(instruction)
        wanted = instruction or robot.instruction
        if not wanted:
            raise UserError("rollout: this robot has no task of its own; give --instruction")
        steps = robot.outcome.max_steps if seconds is None else math.ceil(seconds * spec.rate_hz)
        if not steps:
            raise UserError("rollout: this robot ends no episode of its own; give --seconds")
        if robot.outcome.lockstep:
            taken, counts = _in_lockstep(policy, robot, wanted, steps, timing, seed), dict[str, int]()
        else:
            taken, counts = _in_real_time(policy, robot, instruction or "", steps, timing)
        success = robot.success if robot.outcome.max_steps else None
        return DdsResult(robot.instruction or wanted, taken, success, robot.late, tuple(robot.events), counts)


def _in_lockstep(policy: Policy, robot: DdsRobot, wanted: str, steps: int, timing: Timing, seed: int) -> int:
    import torch

    torch.manual_seed(seed)
    loop = build_loop("two-speed", policy, robot, timing)
    with interruption_noted() as interrupted, torch.inference_mode():
        return loop.run(lambda: robot.instruction or wanted, steps, lambda: robot.finished or interrupted()).steps


def _in_real_time(
    policy: Policy, robot: DdsRobot, instruction: str, steps: int, timing: Timing
) -> tuple[int, dict[str, int]]:
    if timing.s1_delay or timing.s2_delay or timing.s2_period is not None:
        raise UserError(
            "rollout: --s1-delay, --s2-delay and --s2-period are for robots in lockstep; this one does not wait"
        )
    stop = LONGEST_AGE_S if timing.s2_stop is None else timing.s2_stop
    # A limited command is another command: in simulation, where there is nothing to protect, the policy is judged.
    settings = EpisodeSettings(replace(timing, s2_stop=stop), gate=not robot.has_scenes, words_s=None)
    with interruption_noted() as interrupted:

        def tell(_: Progress) -> None:
            if interrupted():
                episode.stop("canceled", "Ctrl-C")

        episode = Episode(policy, robot, settings, instruction, steps / robot.spec.rate_hz, tell)
        result = episode.run()
    if result.outcome == "failed":
        raise UserError(f"rollout: ended after {result.steps} steps: {result.reason}")
    return result.steps, episode.counts
