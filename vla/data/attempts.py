"""One attempt at an episode, by a scripted expert or by a policy, from seed to frames."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from vla.data.episode import UNKNOWN_PIXEL, Episode, Frame
from vla.robots.gym_sim import GymRobot, Pixel, find_environment
from vla.spec import RobotSpec

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

    Every other seed has randomised looks. Recorded is what the expert would do, executed what its hand makes of it.
    """

    keeps_failures = False

    def __init__(self, env: str, task: str, spec: RobotSpec) -> None:
        import gymnasium

        entry = find_environment(env, task)
        self._make_expert = _expert_maker(entry.module)
        self._spec = spec
        self._envs: list[Any] = [
            gymnasium.make(entry.id, task=task, randomize=randomize, **entry.kwargs, **entry.practice).unwrapped
            for randomize in (False, True)
        ]

    def play(self, seed: int) -> list[Episode]:
        env = self._envs[seed % 2]
        observation, info = env.reset(seed=seed)
        expert = self._make_expert(env, np.random.default_rng(seed))
        episodes = [Episode(env.task_description)]
        for _ in range(env._max_episode_steps):
            if env.task_description != episodes[-1].task:
                episodes.append(Episode(env.task_description))
            action = expert.act()
            marks = env.annotation()
            before, subtask, progress = observation, expert.subtask, expert.progress
            observation, _, terminated, truncated, info = env.step(expert.perturb(action))
            disturbed = expert.disturbed or bool(info.get("disturbed"))
            episodes[-1].frames.append(
                Frame(
                    images={name: before["pixels"][name] for name in self._spec.camera_names},
                    state=before["agent_pos"],
                    action=action,
                    subtask=subtask,
                    progress=float(progress),
                    target_pixel=tuple(marks["target_pixel"]),
                    goal_pixel=tuple(marks["goal_pixel"]),
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
        self._policy = TandemPolicy.from_pretrained(policy)
        entry = find_environment(env, task)
        self._make_expert = _expert_maker(entry.module)
        self._robots = [
            GymRobot(entry, task=task, randomize=randomize, **entry.practice) for randomize in (False, True)
        ]
        for robot in self._robots:
            robot.connect()

    def play(self, seed: int) -> list[Episode]:
        import torch

        from vla.runtime.loop import ControlLoop, Timing
        from vla.runtime.telemetry import StepView

        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        robot = self._robots[seed % 2]
        robot.reset(seed)
        expert = self._make_expert(robot.environment, rng)
        episodes = [Episode(robot.instruction)]

        def correction() -> dict[str, Any]:
            action = expert.act()
            target, goal = robot.marks() or (UNKNOWN_PIXEL, UNKNOWN_PIXEL)
            return {
                "action": action, "subtask": expert.subtask, "progress": float(expert.progress),
                "target_pixel": target, "goal_pixel": goal,
            }  # fmt: skip

        due = [correction()]

        def record(view: StepView) -> None:
            if view.instruction != episodes[-1].task:
                episodes.append(Episode(view.instruction))
            seen = view.observation
            right = due.pop()
            disturbed = bool(np.abs(view.action - right["action"]).max() > OTHERWISE)
            episodes[-1].frames.append(
                Frame(seen.images, seen.state, success=robot.success, disturbed=disturbed, **right)
            )
            expert.moved(view.action)
            due.append(correction())

        timing = Timing(s2_delay=float(rng.uniform(0, LONGEST_DELAY)))
        with torch.inference_mode():
            loop = ControlLoop(self._policy, robot, timing, on_step=record)
            loop.run(lambda: robot.instruction, robot.max_steps, lambda: robot.finished)
        return episodes

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
        self._policy = TandemPolicy.from_pretrained(policy)
        self._robot = GymRobot(find_environment(env, task), task=task)
        self._robot.connect()

    def play(self, seed: int) -> list[Episode]:
        import torch

        from vla.runtime.loop import ControlLoop
        from vla.runtime.telemetry import StepView

        torch.manual_seed(seed)
        robot = self._robot
        robot.reset(seed)
        episodes = [Episode(robot.instruction)]
        marks = [self._marks()]

        def record(view: StepView) -> None:
            if view.instruction != episodes[-1].task:
                episodes.append(Episode(view.instruction))
            target, goal = marks[-1]
            episodes[-1].frames.append(
                Frame(
                    images=view.observation.images,
                    state=view.observation.state,
                    action=view.action,
                    target_pixel=target,
                    goal_pixel=goal,
                    success=robot.success,
                )
            )
            marks.append(self._marks())

        with torch.inference_mode():
            loop = ControlLoop(self._policy, robot, on_step=record)
            loop.run(lambda: robot.instruction, robot.max_steps, lambda: robot.finished)
        return episodes

    def close(self) -> None:
        self._robot.close()

    def _marks(self) -> tuple[Pixel, Pixel]:
        return self._robot.marks() or (UNKNOWN_PIXEL, UNKNOWN_PIXEL)


def _expert_maker(module: str) -> Callable[..., Any]:
    """Of an environment's package: (environment, source of chance) to an expert of its scene."""
    return importlib.import_module(f"{module}.experts").make_expert
