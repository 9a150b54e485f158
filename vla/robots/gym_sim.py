"""Gymnasium environments as robots."""

import ctypes
import difflib
import importlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vla import assets
from vla.errors import UserError
from vla.robots.base import Observation
from vla.robots.benchmarks import (
    ALOHA_TASKS,
    LIBERO_SUITES,
    LIBERO_TASKS,
    METAWORLD_GROUPS,
    METAWORLD_MT10,
    METAWORLD_MT50,
)
from vla.spec import RobotSpec

Pixel = tuple[float, float]

INSTALL_EGL = "apt install libegl1 libegl-mesa0 libgl1-mesa-dri"
INSTALL_BENCH = "pip install 'vla[bench]'"
INSTALL_LIBERO = "pip install 'hf-libero>=0.1.4,<0.2', in an environment of its own"
METAWORLD_ID, ALOHA_ID, LIBERO_ID = "vla/MetaWorld-v0", "vla/Aloha-v0", "vla/Libero-v0"


@dataclass(frozen=True)
class Environment:
    """A registered environment.

    module: what to import so that gymnasium knows `id`. robot: the shipped robot spec it obeys.
    families: names of its tasks; groups: several of them under one name, such as a difficulty.
    kwargs: passed to `gymnasium.make`; task and split too. practice: passed too where demonstrations are recorded,
    and one of `looks` in turn.
    twin_size: side in pixels of large pictures for people, rendered from a twin of the environment; 0 if it cannot be
    had that way. package: what has to be installed beside ours; provides: the module it is imported by, if named
    otherwise; install: how.
    """

    id: str
    module: str
    robot: str
    families: tuple[str, ...]
    splits: tuple[str, ...] = ("all",)
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    practice: Mapping[str, Any] = field(default_factory=dict)
    looks: tuple[Mapping[str, Any], ...] = ({},)
    twin_size: int = 0
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    package: str | None = None
    provides: str | None = None
    install: str = INSTALL_BENCH


_LACKING = {
    "perturb": "cannot be perturbed: it takes no argument perturb",
    "obs_size": "has no still scenes: it must take obs_size and render",
    "render": "cannot run in real time or without pictures: it takes no argument render",
}
"""What an environment that does without one of the optional arguments cannot do."""

RANDOMIZED_OR_NOT: tuple[Mapping[str, Any], ...] = ({"randomize": False}, {"randomize": True})

_METAWORLD = Environment(
    id=METAWORLD_ID,
    module="vla.evaluation.suites.metaworld",
    robot="metaworld",
    families=METAWORLD_MT50,
    splits=("all", "train", "phrasing"),
    practice={"split": "train"},
    twin_size=768,
    groups=METAWORLD_GROUPS,
    package="metaworld",
)

ENVIRONMENTS: Mapping[str, Environment] = {
    "tabletop": Environment(
        id="gym_tabletop/Tabletop-v0",
        module="gym_tabletop",
        robot="tabletop",
        families=("push", "lift", "place"),
        splits=("all", "train", "phrasing", "pair"),
        practice={"split": "train"},
        looks=RANDOMIZED_OR_NOT,
        twin_size=768,
    ),
    "tabletop-suite": Environment(
        id="gym_tabletop/Tabletop-v0",
        module="gym_tabletop",
        robot="tabletop",
        families=(
            *("push", "lift", "place", "press", "open", "close", "stack"),
            *("moving", "changed", "stages", "relation"),
        ),
        splits=("all", "train", "phrasing", "pair"),
        kwargs={"suite": True},
        practice={"split": "train", "events": True},
        looks=RANDOMIZED_OR_NOT,
        twin_size=768,
    ),
    "metaworld": _METAWORLD,
    "metaworld-mt10": replace(_METAWORLD, families=METAWORLD_MT10, groups={}, kwargs={"suite": "mt10"}),
    "aloha": Environment(
        id=ALOHA_ID,
        module="vla.evaluation.suites.aloha",
        robot="aloha",
        families=ALOHA_TASKS,
        package="gym-aloha",
    ),
    **{
        f"libero-{suite}": Environment(
            id=LIBERO_ID,
            module="vla.evaluation.suites.libero",
            robot="libero_panda",
            families=LIBERO_TASKS,
            kwargs={"suite": suite},
            package="hf-libero",
            provides="libero",
            install=INSTALL_LIBERO,
        )
        for suite in LIBERO_SUITES
    },
}


def find_environment(name: str, task: str = "all", split: str = "all") -> Environment:
    """The environment of that name, or `module:NAME`, your own; UserError if it, or task or split, does not exist."""
    environment = _own(name) if ":" in name else ENVIRONMENTS[_choice("environment", name, tuple(ENVIRONMENTS))]
    _choice(f"task of {name}", task, ("all", *environment.groups, *environment.families))
    _choice(f"split of {name}", split, environment.splits)
    return environment


def make_robot(name: str, task: str = "all", split: str = "all", lazy: bool = False, **kwargs: Any) -> "GymRobot":
    """A connected robot in the environment `name`. Raises UserError as `find_environment` and `GymRobot.connect` do."""
    robot = GymRobot(find_environment(name, task, split), task=task, split=split, lazy=lazy, **kwargs)
    robot.connect()
    return robot


class GymRobot:
    """A gymnasium environment behind the `SimulatedRobot` protocol; its time is the number of steps over the rate.

    The environment follows LeRobot's conventions: `pixels` and `agent_pos`, `task`, `task_description`,
    `_max_episode_steps`, `info["is_success"]`. lazy: where the environment renders on demand, an observation's images
    can be had until the next command only, and those that nobody looks at are never rendered. disturbed: whether the
    last step was not the action's doing alone.
    """

    def __init__(
        self, environment: Environment, task: str = "all", split: str = "all", lazy: bool = False, **kwargs: Any
    ) -> None:
        self._environment, self._lazy = environment, lazy
        self._kwargs = {**environment.kwargs, "task": task, "split": split, **kwargs}
        self.spec = RobotSpec.load(assets.find("robot", environment.robot))
        self._env: Any = None
        self._twin: Any = None
        self._seed: int | None = None
        self._twin_seed: int | None = None
        self._observation: Observation | None = None
        self.success = False
        self.finished = False
        self.disturbed = False
        self._steps = 0

    def connect(self) -> None:
        """Build the environment. Raises UserError naming the Debian packages if EGL is missing."""
        if self._env is None:
            self._env = make_environment(self._environment, **self._kwargs)

    def close(self) -> None:
        for env in (self._env, self._twin):
            if env is not None:
                env.close()
        self._env = self._twin = self._observation = self._twin_seed = None

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reset(self, seed: int | None = None) -> Observation:
        pixels, _ = self._connected().reset(seed=seed)
        self._seed, self._steps, self.success, self.finished = seed, 0, False, False
        self._observation = self._translate(pixels)
        return self._observation

    def observe(self) -> Observation:
        if self._observation is None:
            raise RuntimeError("reset the robot before observing it")
        return self._observation

    def command(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        env = self._connected()
        sent = np.clip(np.asarray(action, np.float32), env.action_space.low, env.action_space.high)
        pixels, _, terminated, truncated, info = env.step(sent)
        self._steps += 1
        self.success = bool(info["is_success"])
        self.finished = bool(terminated or truncated)
        self.disturbed = bool(info.get("disturbed"))
        self._observation = self._translate(pixels)
        return sent

    @property
    def max_steps(self) -> int:
        return int(self._connected().unwrapped._max_episode_steps)

    @property
    def environment(self) -> Any:
        """The environment itself, for whoever may know the true state (experts)."""
        return self._connected().unwrapped

    @property
    def instruction(self) -> str:
        return str(self._connected().unwrapped.task_description)

    @property
    def family(self) -> str:
        return str(self._connected().unwrapped.task)

    def instructions(self) -> list[Any]:
        return list(self._connected().unwrapped.instructions())

    def paraphrases(self) -> list[str]:
        """Raises UserError if the environment never has any."""
        paraphrases = getattr(self._connected().unwrapped, "paraphrases", None)
        if paraphrases is None:
            raise UserError(f"environment {self._environment.id} cannot be paraphrased: it has no other words")
        return list(paraphrases())

    def others(self) -> list[str]:
        return list(getattr(self._connected().unwrapped, "others", list)())

    def marks(self) -> tuple[Pixel, Pixel] | None:
        """Where target and goal are now, (u, v) in [0, 1] of the front image; None if the environment does not say."""
        annotation = getattr(self._connected().unwrapped, "annotation", None)
        if annotation is None:
            return None
        now = annotation()
        return tuple(now["target_pixel"]), tuple(now["goal_pixel"])

    def set_instruction(self, text: str) -> None:
        """Judge the episode by another instruction; UserError with a few examples if this scene cannot have it."""
        try:
            self._connected().unwrapped.set_instruction(text)
        except ValueError:
            possible = list(dict.fromkeys(one.text for one in self.instructions()))
            near = difflib.get_close_matches(text, possible, 3, cutoff=0.3) or possible[:3]
            listed = " | ".join(near)
            raise UserError(f"instruction {text!r} cannot be judged in this scene; try for example: {listed}") from None
        self.success = self.finished = False

    # What a body that runs in real time needs, instead of `command` and `observe`.

    def servo(self, joints: NDArray[np.float64], gripper: float) -> NDArray[np.float32]:
        """Drive to `joints` (N,) in rad and `gripper` (1 = open) for a 200th of a second; returns the state (S,).

        Raises UserError if the environment cannot be driven by joints in such small steps.
        """
        env = self._connected().unwrapped
        if not hasattr(env, "servo"):
            raise UserError(f"environment {self._environment.id} cannot run in real time: it has no servos at 200 Hz")
        self.success = self.finished = bool(env.servo(joints, gripper))
        return env.agent_pos()

    def images_at(self, snapshot: NDArray[np.float64]) -> Mapping[str, NDArray[np.uint8]]:
        """What every camera sees at a snapshot that another process took of an episode of the same seed."""
        env = self._connected().unwrapped
        _put_snapshot(env, snapshot)
        return {name: env.image(name) for name in self.spec.camera_names}

    def snapshot(self) -> NDArray[np.float64] | None:
        """The physics state, from which `picture` can show this moment later; None if that cannot be had."""
        if not self._environment.twin_size:
            return None
        import mujoco

        env, kind = self._connected().unwrapped, mujoco.mjtState.mjSTATE_FULLPHYSICS
        state = np.empty(mujoco.mj_stateSize(env.model, kind))
        mujoco.mj_getState(env.model, env.data, state, kind)
        return state

    def picture(self, camera: str, snapshot: NDArray[np.float64]) -> NDArray[np.uint8]:
        """A large, smooth RGB image for people (S/2, S/2, 3): what `camera` saw at a snapshot of this episode.

        A twin of the environment renders it: the same seed builds the same scene there, and the snapshot is copied
        in, so that what the policy sees stays untouched.
        """
        import cv2

        size = self._environment.twin_size
        if self._twin is None:
            self._twin = make_environment(self._environment, **{**self._kwargs, "obs_size": size, "render": False})
        twin = self._twin.unwrapped
        if self._twin_seed != self._seed:
            twin.reset(seed=self._seed)
            self._twin_seed = self._seed
        _put_snapshot(twin, snapshot)
        small = cv2.resize(twin.image(camera), (size // 2, size // 2), interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.uint8)

    def _connected(self) -> Any:
        if self._env is None:
            raise RuntimeError("connect the robot first")
        return self._env

    def _translate(self, raw: Mapping[str, Any]) -> Observation:
        images = raw["pixels"] if self._lazy else {name: raw["pixels"][name] for name in self.spec.camera_names}
        return Observation(images, np.asarray(raw["agent_pos"], np.float32), self._steps / self.spec.rate_hz)


def _put_snapshot(env: Any, snapshot: NDArray[np.float64]) -> None:
    import mujoco

    mujoco.mj_setState(env.model, env.data, snapshot, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    mujoco.mj_forward(env.model, env.data)


def _own(name: str) -> Environment:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"environment {name}: {error}; is the module's folder in PYTHONPATH?") from None
    if not isinstance(found, Environment):
        raise UserError(f"environment {name}: that is no vla.robots.gym_sim.Environment")
    return found


def make_environment(environment: Environment, **kwargs: Any) -> Any:
    """Of Gymnasium. UserError for what is not installed or not registered, and for an argument it does without."""
    check_rendering()
    try:
        gymnasium = importlib.import_module("gymnasium")
        check_installed(environment)
        importlib.import_module(environment.module)
        try:
            return gymnasium.make(environment.id, disable_env_checker=True, **kwargs)
        except gymnasium.error.Error as error:
            raise UserError(f"environment {environment.id}: {error}") from None
    except ValueError as error:
        raise UserError(f"environment {environment.id}: {error}") from None
    except TypeError as error:
        for argument, lacking in _LACKING.items():
            if f"unexpected keyword argument '{argument}'" in str(error):
                raise UserError(f"environment {environment.id} {lacking}") from None
        raise
    except ModuleNotFoundError as error:
        raise UserError(f"environment {environment.id}: Python package {error.name} is missing") from None
    except ImportError as error:
        if "EGL" not in str(error):
            raise
        raise UserError(f"MuJoCo renders through EGL, which finds no device: {INSTALL_EGL}") from None


def check_installed(environment: Environment) -> None:
    """UserError with what to install if the package behind an environment is not there."""
    if environment.package is None:
        return
    module = environment.provides or environment.package.replace("-", "_")
    if importlib.util.find_spec(module) is None:
        what = f"environment {environment.id}: Python package {environment.package} is missing"
        raise UserError(f"{what}: {environment.install}")


def check_rendering() -> None:
    """UserError with the packages to install if MuJoCo is to render through EGL and its library is not there."""
    if os.environ["MUJOCO_GL"] == "egl":
        try:
            ctypes.CDLL("libEGL.so.1")
        except OSError:
            raise UserError(f"MuJoCo renders through EGL, and libEGL.so.1 is missing: {INSTALL_EGL}") from None


def _choice(what: str, name: str, choices: tuple[str, ...]) -> str:
    if name in choices:
        return name
    near = difflib.get_close_matches(name, choices, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"unknown {what}: {name!r}; there are {', '.join(choices)}{hint}")
