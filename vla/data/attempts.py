"""One attempt at an episode, by a scripted expert or by a policy, from seed to frames."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vla.data.episode import UNKNOWN_PIXEL, Episode, Frame
from vla.errors import UserError
from vla.robots.gym_sim import Environment, GymRobot, Pixel, check_installed, find_environment
from vla.spec import RobotSpec

if TYPE_CHECKING:  # loads torch, which playing experts has no use for
    from vla.runtime.loop import Policy, Timing
    from vla.runtime.telemetry import StepView

LONGEST_DELAY = 1.0
"""Of S2 while a policy is corrected (s)."""
OTHERWISE = 0.006
"""By how much (m, rad, 1) a policy's action differs from the expert's if the two no longer do the same."""


class Actor(Protocol):
    """Plays the episode of a seed. keeps_failures: failed episodes belong into the data.

    Where the instruction changed on the way there is one episode for each; the last one tells the outcome.
    """

    keeps_failures: bool

    def play(self, seed: int) -> list[Episode]: ...

    def close(self) -> None: ...


class ExpertActor:
    """The scripted expert of a `gym_tabletop`-like environment, on training instructions only.

    The environment's looks take turns. Recorded is what the expert would do, executed what its hand makes of it.
    """

    keeps_failures = False

    def __init__(self, env: str, task: str, spec: RobotSpec) -> None:
        import gymnasium

        entry = find_environment(env, task)
        self._make_expert = expert_maker(entry)
        self._spec = spec
        self._envs: list[Any] = [
            gymnasium.make(entry.id, task=task, **entry.kwargs, **entry.practice, **look).unwrapped
            for look in entry.looks
        ]

    def play(self, seed: int) -> list[Episode]:
        env = self._envs[seed % len(self._envs)]
        observation, info = env.reset(seed=seed)
        expert = self._make_expert(env, np.random.default_rng(seed))
        episodes = [Episode(env.task_description)]
        for _ in range(env._max_episode_steps):
            if env.task_description != episodes[-1].task:
                episodes.append(Episode(env.task_description))
            action = expert.act()
            marks = env.annotation() if hasattr(env, "annotation") else {}
            # Before the step: an environment that renders on demand shows the present only.
            images = {name: observation["pixels"][name] for name in self._spec.camera_names}
            state, subtask, progress = observation["agent_pos"], expert.subtask, expert.progress
            observation, _, terminated, truncated, info = env.step(expert.perturb(action))
            disturbed = expert.disturbed or bool(info.get("disturbed"))
            episodes[-1].frames.append(
                Frame(
                    images=images,
                    state=state,
                    action=action,
                    subtask=subtask,
                    progress=float(progress),
                    target_pixel=tuple(marks.get("target_pixel", UNKNOWN_PIXEL)),
                    goal_pixel=tuple(marks.get("goal_pixel", UNKNOWN_PIXEL)),
                    success=bool(info["is_success"]),
                    disturbed=disturbed,
                )
            )
            if terminated or truncated:
                break
        return [episode for episode in episodes if episode.frames]

    def close(self) -> None:
        for env in self._envs:
            env.close()


class CorrectedActor:
    """A policy drives, and the expert of the environment says at every step what it would do instead: that is recorded.

    So S1 learns what to do where its own mistakes lead (DAgger, Ross et al., AISTATS 2011). S2's delay is another in
    every episode, up to LONGEST_DELAY, since the mistakes of old thoughts are others. Failures are kept.
    """

    keeps_failures = True

    def __init__(self, env: str, task: str, policy: str) -> None:
        import torch

        from vla.tandem import TandemPolicy

        torch.set_num_threads(1)
        entry = find_environment(env, task)
        self._make_expert = expert_maker(entry)
        self._robots = [GymRobot(entry, task=task, **entry.practice, **look) for look in entry.looks]
        for robot in self._robots:
            robot.connect()
        self._policy = TandemPolicy.from_pretrained(policy, robot=self._robots[0].spec)

    def play(self, seed: int) -> list[Episode]:
        import torch

        from vla.runtime.loop import Timing

        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        robot = self._robots[seed % len(self._robots)]
        robot.reset(seed)
        expert = self._make_expert(robot.environment, rng)

        def correction() -> dict[str, Any]:
            action = expert.act()
            return {"action": action, "subtask": expert.subtask, "progress": float(expert.progress)}

        def compared(view: StepView, right: dict[str, Any]) -> dict[str, Any]:
            expert.moved(view.action)
            return right | {"disturbed": bool(np.abs(view.action - right["action"]).max() > OTHERWISE)}

        timing = Timing(s2_delay=float(rng.uniform(0, LONGEST_DELAY)))
        return _drive(self._policy, robot, timing, correction, compared)

    def close(self) -> None:
        for robot in self._robots:
            robot.close()


class PolicyActor:
    """A policy in the control loop, without latency; its failures are data too."""

    keeps_failures = True

    def __init__(self, env: str, task: str, policy: str) -> None:
        import torch

        from vla.tandem import TandemPolicy

        torch.set_num_threads(1)
        self._robot = GymRobot(find_environment(env, task), task=task)
        self._robot.connect()
        self._policy = TandemPolicy.from_pretrained(policy, robot=self._robot.spec)

    def play(self, seed: int) -> list[Episode]:
        import torch

        torch.manual_seed(seed)
        self._robot.reset(seed)
        return _drive(self._policy, self._robot, None, dict, lambda view, _: {"action": view.action})

    def close(self) -> None:
        self._robot.close()


def _drive(
    policy: Policy,
    robot: GymRobot,
    timing: Timing | None,
    before: Callable[[], dict[str, Any]],
    after: Callable[[StepView, dict[str, Any]], dict[str, Any]],
) -> list[Episode]:
    """Let the policy play the episode the robot was reset to, and record it: a new one where the instruction changes.

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
        loop.run(lambda: robot.instruction, robot.max_steps, lambda: robot.finished)
    return episodes


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
