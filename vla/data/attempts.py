"""One attempt at an episode, by a scripted expert or by a policy, from seed to frames."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vla.data.episode import OTHERWISE, UNKNOWN_PIXEL, Episode, Frame
from vla.errors import UserError
from vla.robots.gym_sim import Environment, GymRobot, Pixel, check_installed, find_environment

if TYPE_CHECKING:  # loads torch, which playing experts has no use for
    from vla.runtime.loop import Policy, Timing
    from vla.runtime.telemetry import StepView

LONGEST_DELAY = 1.0
"""Of S2 while a policy is corrected (s)."""
ALONE = (0.1, 0.6)
"""For what share of an episode's longest time, between these, a policy drives before the expert takes over."""


class Actor(Protocol):
    """Plays the episode of a seed. keeps_failures: failed episodes belong into the data.

    Where the instruction changed on the way there is one episode for each; the last one tells the outcome.
    """

    keeps_failures: bool

    def play(self, seed: int) -> list[Episode]: ...

    def close(self) -> None: ...


class ExpertActor:
    """The scripted expert of a `gym_tabletop`-like environment, on training instructions only.

    The environment's looks take turns. Recorded is what the expert would do, executed what its hand makes of it, unless
    that is `steady`.
    """

    keeps_failures = False

    def __init__(self, env: str, task: str, steady: bool = False) -> None:
        self._robots, self._make_expert = _practice(env, task)
        self._steady = steady

    def play(self, seed: int) -> list[Episode]:
        robot = self._robots[seed % len(self._robots)]
        robot.reset(seed)
        expert = self._make_expert(robot.environment, np.random.default_rng(seed))
        episodes = [Episode(robot.instruction)]
        _demonstrate(robot, expert, episodes, robot.max_steps, self._steady)
        return [episode for episode in episodes if episode.frames]

    def close(self) -> None:
        for robot in self._robots:
            robot.close()


class CorrectedActor:
    """A policy drives for a while, then the expert of the environment takes over and does the task, if it still can.

    Recorded is what the expert would do, all the time: so S1 learns what to do where its own mistakes lead (DAgger,
    Ross et al., AISTATS 2011), and whole ways back from there. Were the policy to drive on, most frames would show it
    stuck, some of them where nothing helps any more. S2's delay is another in every episode, up to LONGEST_DELAY, since
    the mistakes of old thoughts are others.
    """

    keeps_failures = False

    def __init__(self, env: str, task: str, policy: str, device: str = "cpu") -> None:
        import torch

        from vla.policies import load_here

        torch.set_num_threads(1)
        self._robots, self._make_expert = _practice(env, task)
        self._policy = load_here(policy, self._robots[0].spec, device)

    def play(self, seed: int) -> list[Episode]:
        import torch

        from vla.runtime.loop import Timing

        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        robot = self._robots[seed % len(self._robots)]
        robot.reset(seed)
        expert = self._make_expert(robot.environment, rng)

        moved = getattr(expert, "moved", None)  # one that remembers no move of its own does without

        def correction() -> dict[str, Any]:
            action = expert.act()
            return {"action": action, "subtask": expert.subtask, "progress": float(expert.progress)}

        def compared(view: StepView, right: dict[str, Any]) -> dict[str, Any]:
            if moved is not None:
                moved(view.action)
            otherwise = bool(np.abs(view.action - right["action"]).max() > OTHERWISE)
            return right | {"disturbed": otherwise, "executed": view.action}

        timing = Timing(s2_delay=float(rng.uniform(0, LONGEST_DELAY)))
        alone = round(robot.max_steps * rng.uniform(*ALONE))
        episodes = _drive(self._policy, robot, timing, correction, compared, alone)
        _demonstrate(robot, expert, episodes, robot.max_steps)
        return episodes

    def close(self) -> None:
        for robot in self._robots:
            robot.close()


class PolicyActor:
    """A policy in the control loop, without latency, on training instructions only; its failures are data too."""

    keeps_failures = True

    def __init__(self, env: str, task: str, policy: str, device: str = "cpu") -> None:
        import torch

        from vla.policies import load_here

        torch.set_num_threads(1)
        entry = find_environment(env, task)
        self._robot = GymRobot(entry, task=task, **entry.practice)
        self._robot.connect()
        self._policy = load_here(policy, self._robot.spec, device)

    def play(self, seed: int) -> list[Episode]:
        import torch

        torch.manual_seed(seed)
        self._robot.reset(seed)
        steps = self._robot.max_steps
        return _drive(self._policy, self._robot, None, dict, lambda view, _: {"action": view.action}, steps)

    def close(self) -> None:
        self._robot.close()


def _drive(
    policy: Policy,
    robot: GymRobot,
    timing: Timing | None,
    before: Callable[[], dict[str, Any]],
    after: Callable[[StepView, dict[str, Any]], dict[str, Any]],
    steps: int,
) -> list[Episode]:
    """Let the policy play the episode the robot was reset to, for so many steps at most, and record it: a new one where
    the instruction changes.

    before: called in the state that a step begins in. after: makes of that, and of the step, a frame's other fields.
    """
    import torch

    from vla.runtime.loop import ControlLoop

    episodes = [Episode(robot.instruction)]

    def mark() -> tuple[tuple[Pixel, Pixel], dict[str, Any]]:
        said = before()
        return robot.marks() or (UNKNOWN_PIXEL, UNKNOWN_PIXEL), said

    marks = [mark()]

    def record(view: StepView) -> None:
        if view.instruction != episodes[-1].task:
            episodes.append(Episode(view.instruction))
        (target, goal), said = marks.pop()
        seen, fields = view.observation, after(view, said)
        episodes[-1].frames.append(
            Frame(seen.images, seen.state, target_pixel=target, goal_pixel=goal, success=robot.success, **fields)
        )
        marks.append(mark())

    with torch.inference_mode():
        loop = ControlLoop(policy, robot, timing, on_step=record)
        loop.run(lambda: robot.instruction, steps, lambda: robot.finished)
    return episodes


def _demonstrate(robot: GymRobot, expert: Any, episodes: list[Episode], steps: int, steady: bool = False) -> None:
    """Let the expert go on until the robot has finished, for so many steps at most, and record what it would do."""
    for _ in range(steps):
        if robot.finished:
            break
        if robot.instruction != episodes[-1].task:
            episodes.append(Episode(robot.instruction))
        seen, action = robot.observe(), expert.act()
        target, goal = robot.marks() or (UNKNOWN_PIXEL, UNKNOWN_PIXEL)
        subtask, progress = expert.subtask, float(expert.progress)
        executed = robot.command(action if steady else expert.perturb(action))
        episodes[-1].frames.append(
            Frame(
                seen.images,
                seen.state,
                action=action,
                subtask=subtask,
                progress=progress,
                target_pixel=target,
                goal_pixel=goal,
                success=robot.success,
                disturbed=expert.disturbed or robot.disturbed,
                executed=executed,
            )
        )


def _practice(env: str, task: str) -> tuple[list[GymRobot], Callable[..., Any]]:
    """A robot for every look of the environment, connected, on training instructions; and what makes its experts."""
    entry = find_environment(env, task)
    make_expert = expert_maker(entry)
    robots = [GymRobot(entry, task=task, **entry.practice, **look) for look in entry.looks]
    for robot in robots:
        robot.connect()
    return robots, make_expert


def expert_maker(entry: Environment) -> Callable[..., Any]:
    """(environment, source of chance) to an expert of its scene. UserError if it has none, or its package is missing.

    Importing it also makes gymnasium know the environment.
    """
    check_installed(entry)
    try:
        return importlib.import_module(f"{entry.module}.experts").make_expert
    except ModuleNotFoundError as error:
        if error.name != f"{entry.module}.experts":
            raise
        raise UserError(f"environment {entry.id} has no scripted experts; give --policy") from None
