"""LIBERO's suites (arXiv 2306.03310, `hf-libero`): a Panda on a table, ten tasks each, from the fixed initial states.

As LeRobot 0.6.1 evaluates them (`envs/libero.py`): initial state, ten steps of nothing while things settle, at most
280 (spatial, object), 300 (goal) or 520 (10) steps of 20 Hz, success LIBERO's own `check_success` at any step. Pictures
come from robosuite's renderer, bottom row first, and are turned upright.
"""

import contextlib
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Float
from numpy.typing import NDArray

from vla.errors import UserError
from vla.evaluation.suites import Request
from vla.robots.benchmarks import LIBERO_TASKS
from vla.robots.gym_sim import INSTALL_LIBERO, LIBERO_ID
from vla.strict import read_yaml

HORIZONS = {"spatial": 280, "object": 280, "goal": 300, "10": 520}
SETTLE = 10
NOTHING = np.array([0, 0, 0, 0, 0, 0, -1], np.float64)
STEP, TURN = 0.05, 0.5
"""Metres and radians of the controller's command 1 (robosuite, controllers/config/osc_pose.json)."""
CAMERAS = {"front": "agentview_image", "wrist": "robot0_eye_in_hand_image"}
CONFIG = "config.yaml"
WORDS = Path(__file__).with_name("libero_words.yaml")


class LiberoEnv(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """Seed s plays task s modulo the number of tasks, from initial state s // tasks of those LIBERO comes with.

    Observation: `pixels` {"front", "wrist"}: uint8 (S, S, 3); `agent_pos` float32 (15,): joints (rad), hand position
    (m) and axis-angle (rad), fingers (m). Action float32 (7,): step of the hand (m) and turn (rad), both in the world's
    frame, and the gripper's opening. suite: "spatial", "object", "goal" or "10"; task: "all" or a number.
    Raises UserError if the package is not ready (`check_libero`), ValueError for looks: the pictures are LIBERO's own.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  gymnasium's instance variable

    def __init__(
        self,
        suite: str = "spatial",
        task: str = "all",
        split: str = "all",
        obs_size: int = 128,
        perturb: Sequence[str] = (),
        render_mode: str | None = "rgb_array",
    ) -> None:
        if perturb:
            raise ValueError(f"its pictures are drawn by robosuite and cannot be perturbed: {', '.join(perturb)}")
        check_libero()
        self.suite, self.obs_size, self.render_mode = suite, obs_size, render_mode
        self.numbers = [int(name) for name in (LIBERO_TASKS if task == "all" else (task,))]
        self._max_episode_steps = HORIZONS[suite]
        self._benchmark = open_suite(suite)
        self._original: Any = None
        self._number: int | None = None
        self._text = ""
        picture = spaces.Box(0, 255, (obs_size, obs_size, 3), np.uint8)
        self.observation_space = spaces.Dict(
            {
                "pixels": spaces.Dict({camera: picture for camera in CAMERAS}),
                "agent_pos": spaces.Box(-10.0, 10.0, (15,), np.float32),
            }
        )
        high = np.array([STEP] * 3 + [TURN] * 3 + [1.0], np.float32)
        low = np.append(-high[:6], 0.0).astype(np.float32)
        self.action_space = spaces.Box(low, high, dtype=np.float32)

    @property
    def task(self) -> str:
        return str(self._number)

    @property
    def task_description(self) -> str:
        return self._text

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        seed = int(self.np_random.integers(2**31)) if seed is None else seed
        turn, place = divmod(seed, len(self.numbers))
        self._open(self.numbers[place])
        self._text = self._sentence(self._number)
        self._original.seed(seed)
        self._original.reset()
        states = initial_states(self._benchmark, self._number or 0)
        observation = self._original.set_init_state(states[turn % len(states)])
        for _ in range(SETTLE):
            observation, *_ = self._original.step(NOTHING)
        return translate(observation), {"is_success": False}

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        if not np.all(np.isfinite(action)):
            raise ValueError(f"action has a value that is not finite: {action}")
        observation, reward, _, _ = self._original.step(to_libero(action))
        success = bool(self._original.check_success())
        return translate(observation), float(reward), success, False, {"is_success": success}

    def instructions(self) -> list[Request]:
        told = Request(self._sentence(self._number), self.task)
        return [told, *(Request(text, self.task, split="phrasing") for text in self.paraphrases())]

    def paraphrases(self) -> list[str]:
        """What is asked now, in words that no demonstration uses."""
        return list(other_words().get(self._sentence(self._number), ()))

    def others(self) -> list[str]:
        """What the other tasks of the suite are asked for in; that is not judged here."""
        return [self._sentence(number) for number in map(int, LIBERO_TASKS) if number != self._number]

    def set_instruction(self, text: str) -> None:
        if all(text != one.text for one in self.instructions()):
            raise ValueError(f"{text!r} is not what {self.task} asks for")
        self._text = text

    def close(self) -> None:
        if self._original is not None:
            self._original.close()
        self._original = self._number = None

    def _sentence(self, number: int | None) -> str:
        """The one in which LIBERO asks for a task."""
        return str(self._benchmark.get_task(number).language)

    def _open(self, number: int) -> None:
        """LIBERO's environment of a task; one at a time, since each holds a renderer."""
        if number == self._number:
            return
        self.close()
        from libero.libero.envs import OffScreenRenderEnv

        file = self._benchmark.get_task_bddl_file_path(number)
        self._original = OffScreenRenderEnv(
            bddl_file_name=file, camera_heights=self.obs_size, camera_widths=self.obs_size, control_freq=20
        )
        self._number = number


@cache
def other_words() -> Mapping[str, Sequence[str]]:
    """LIBERO's sentence -> others for the same; UserError if the file is damaged."""
    return dict(read_yaml(WORDS, "LIBERO's words"))


def check_libero() -> None:
    """UserError with what to do unless LIBERO can be imported without questions or downloads, and has its meshes."""
    found = importlib.util.find_spec("libero")
    if found is None or not found.submodule_search_locations:
        raise UserError(f"LIBERO: Python package libero is missing: {INSTALL_LIBERO}")
    config = Path(os.environ.get("LIBERO_CONFIG_PATH", "~/.libero")).expanduser() / CONFIG
    if not config.is_file():
        raise UserError(
            f"LIBERO: no {config}, which it asks for when it is first imported: "
            "run python -c 'import libero.libero' once and answer, or set LIBERO_CONFIG_PATH"
        )
    assets = Path(next(iter(found.submodule_search_locations))) / "libero" / "assets"
    if not assets.is_dir():
        raise UserError(f"LIBERO: its meshes and textures are not in {assets}; copy the assets of its repository there")


def open_suite(suite: str) -> Any:
    """LIBERO's own benchmark object, its tasks in their first order, which is LeRobot's."""
    from libero.libero.benchmark import get_benchmark_dict

    with contextlib.redirect_stdout(sys.stderr):  # it says which order it takes
        return get_benchmark_dict()[f"libero_{suite}"]()


def initial_states(benchmark: Any, number: int) -> Float[np.ndarray, "N S"]:
    """The fixed initial states of a task: MuJoCo's flattened, from LIBERO's `.pruned_init` files.

    They are pickles; nothing but arrays is taken from them. Raises UserError for a file that holds anything else.
    """
    from libero.libero import get_libero_path

    task = benchmark.get_task(number)
    return read_states(Path(get_libero_path("init_states")) / task.problem_folder / task.init_states_file)


def read_states(file: Path) -> Float[np.ndarray, "N S"]:
    import pickle

    import torch
    from numpy._core.multiarray import _reconstruct

    # Under both of its names: before and since NumPy 2.
    safe: list[Any] = [_reconstruct, (_reconstruct, "numpy.core.multiarray._reconstruct"), np.ndarray, np.dtype]
    safe += [type(np.dtype(np.float64)), type(np.dtype(np.float32))]
    try:
        with torch.serialization.safe_globals(safe):
            states = np.asarray(torch.load(file, weights_only=True))
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"LIBERO: initial states {file} cannot be read: {reason}") from None
    if states.ndim != 2 or not np.issubdtype(states.dtype, np.floating):
        raise UserError(f"LIBERO: initial states {file} are no table of numbers")
    return states


def translate(observation: Any) -> dict[str, Any]:
    """robosuite's observation as ours."""
    felt = (
        observation["robot0_joint_pos"],
        observation["robot0_eef_pos"],
        axis_angle(observation["robot0_eef_quat"]),
        observation["robot0_gripper_qpos"],
    )
    pictures = {camera: np.ascontiguousarray(observation[key][::-1]) for camera, key in CAMERAS.items()}
    return {"pixels": pictures, "agent_pos": np.concatenate(felt).astype(np.float32)}


def axis_angle(quat: Float[np.ndarray, "4"]) -> Float[np.ndarray, "3"]:
    """Of an xyzw quaternion, at angles of 0 to 2 pi, as robosuite (and so LIBERO's demonstrations) has it."""
    w = float(np.clip(quat[3], -1, 1))
    sine = np.sqrt(1 - w * w)
    return np.zeros(3) if np.isclose(sine, 0) else np.asarray(quat[:3]) * 2 * np.arccos(w) / sine


def to_libero(action: NDArray[np.float32]) -> NDArray[np.float64]:
    """Metres, radians and opening to robosuite's command: (7,) in [-1, 1], where -1 opens."""
    move, turn, opening = np.asarray(action[:3]) / STEP, np.asarray(action[3:6]) / TURN, float(action[6])
    return np.concatenate([move, turn, [1 - 2 * opening]]).clip(-1, 1)


gymnasium.register(id=LIBERO_ID, entry_point="vla.evaluation.suites.libero:LiberoEnv")
