"""One attempt at an episode, by a scripted expert or by a policy, from seed to frames."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from vla.data.recorder import UNKNOWN_PIXEL, Episode, Frame
from vla.robots.gym_sim import GymRobot, Pixel, find_environment
from vla.spec import RobotSpec


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
        module = importlib.import_module(entry.module)
        self._make_expert: Callable[..., Any] = importlib.import_module(f"{module.__name__}.experts").make_expert
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
                )
            )
            if terminated or truncated:
                break
        return [episode for episode in episodes if episode.frames]

    def close(self) -> None:
        for env in self._envs:
            env.close()


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
