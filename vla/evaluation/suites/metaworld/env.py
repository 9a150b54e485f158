"""MetaWorld as an environment of ours: words, two cameras, metres, and an episode that its seed decides."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from gym_tabletop.perturbation import Area, Perturbation
from vla.evaluation.suites.metaworld.scene import CAMERAS, TaskScene
from vla.evaluation.suites.metaworld.table import SPLITS, task_table, tasks_of
from vla.evaluation.suites.rendering import Pixels

HORIZON = 500
"""MetaWorld's own `max_path_length`."""
STEP = 0.01
"""Metres that the hand's target moves for MetaWorld's action 1."""
LONGEST_PLAY = 120
"""Steps that an expert plays before a still scene, at most; most tasks are done by then."""
AREA = Area((-0.35, 0.45), (0.35, 0.85))
"""Where distractors may stand."""
KEPT = 10
"""Scenes kept for the next time their task comes up: 65 MB each, and MT10 fits."""


class Request(NamedTuple):
    """One thing that can be asked for: the fields that `SimulatedRobot.instructions` promises, and their places."""

    text: str
    family: str
    target: str
    goal: str
    split: str
    target_pixel: tuple[float, float]
    goal_pixel: tuple[float, float]


class MetaWorldEnv(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """Seed s plays task s modulo the number of tasks, from the state that MetaWorld itself draws under seed s.

    Observation: `pixels` {"front", "wrist"}: uint8 (S, S, 3) RGB, rendered when looked at; `agent_pos`: float32 (4,):
    hand position (m) and gripper opening (1 = open). Action float32 (4,): step of the hand's target (m, at most 0.01
    per axis) and gripper opening. An episode ends at the first step that MetaWorld calls a success, or after 500.

    With reset option `still`, the expert has already played for a while, as far as it may have come.
    perturb: some of `gym_tabletop.perturbation.LOOKS`, in the pictures only.
    suite: "mt50" or "mt10". task: "all", a difficulty group or a task's name. split: whose words; see `Task.sentences`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012  gymnasium's instance variable

    def __init__(
        self,
        suite: str = "mt50",
        task: str = "all",
        split: str = "all",
        obs_size: int = 128,
        quality: str = "fast",
        perturb: Sequence[str] = (),
        render: bool = True,
        render_mode: str | None = "rgb_array",
    ) -> None:
        self.names = tasks_of(suite, task)
        if not self.names:
            raise ValueError(f"task={task!r} is nothing of {suite}")
        if split not in SPLITS:
            raise ValueError(f"split={split!r} is not one of {', '.join(SPLITS)}")
        self._suite, self.split, self.obs_size, self.render_mode = suite, split, obs_size, render_mode
        self._render, self._high_quality, self.perturb = render, quality == "high", tuple(perturb)
        self._perturbation: Perturbation | None = None
        self._gl: Any = None
        self._scenes: OrderedDict[str, TaskScene] = OrderedDict()
        self._max_episode_steps = HORIZON
        picture = spaces.Box(0, 255, (obs_size, obs_size, 3), np.uint8)
        self.observation_space = spaces.Dict(
            {
                "pixels": spaces.Dict({camera: picture for camera in CAMERAS}),
                "agent_pos": spaces.Box(-10.0, 10.0, (4,), np.float32),
            }
        )
        low, high = np.array([-STEP] * 3 + [0.0], np.float32), np.array([STEP] * 3 + [1.0], np.float32)
        self.action_space = spaces.Box(low, high, dtype=np.float32)
        self._scene: TaskScene | None = None
        self._pixels: Pixels | None = None
        self._text = ""

    @property
    def scene(self) -> TaskScene:
        """The task at hand, for whoever may know the true state."""
        assert self._scene is not None, "reset the environment first"
        return self._scene

    @property
    def model(self) -> Any:
        return self.scene.model

    @property
    def data(self) -> Any:
        return self.scene.data

    @property
    def task(self) -> str:
        return self.scene.name

    @property
    def task_description(self) -> str:
        return self._text

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self._scene = self._open(self.names[seed % len(self.names)])
        self._scene.reset(seed)
        if (options or {}).get("still"):
            self._play_on(np.random.default_rng([seed, 1]))
        if self.perturb:
            self._perturbation = Perturbation(self.perturb, seed, self.model, self.data, AREA)
        sentences = self._scene.task.sentences(self.split)
        self._text = sentences[int(np.random.default_rng([seed, len(sentences)]).integers(len(sentences)))]
        return self._observation(), self._info(False)

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        if not np.all(np.isfinite(action)):
            raise ValueError(f"action has a value that is not finite: {action}")
        if self._pixels is not None:
            self._pixels.expire()
        reward, success = self.scene.step(to_metaworld(action))
        return self._observation(), reward, success, self.scene.steps >= HORIZON, self._info(success)

    def image(self, camera: str) -> NDArray[np.uint8]:
        """RGB (S, S, 3) of `camera` as things stand."""
        change = None if self._perturbation is None else self._perturbation.through(fixed=camera == "front")
        return self.scene.image(camera, change)

    def render(self) -> NDArray[np.uint8]:
        """The front image (S, S, 3)."""
        return self.image("front")

    def instructions(self) -> list[Request]:
        """Every sentence for the task of this scene; there is nothing else to do in it that could be judged."""
        task = self.scene.task
        places = self.scene.project(self.scene.target_place()), self.scene.project(self.scene.goal_place())
        return [
            Request(text, self.task, task.target, task.goal, split, *places)
            for split in ("train", "phrasing")
            for text in task.sentences(split)
        ]

    def paraphrases(self) -> list[str]:
        """What is asked now, in words that no demonstration uses."""
        return list(self.scene.task.held_out)

    def others(self) -> list[str]:
        """What other tasks of the suite are asked for in; nothing of that is judged here."""
        texts = dict.fromkeys(task_table()[name].says for name in tasks_of(self._suite, "all"))
        return [text for text in texts if text != self.scene.task.says]

    def set_instruction(self, text: str) -> None:
        if all(text != one.text for one in self.instructions()):
            raise ValueError(f"{text!r} is no sentence for {self.task}")
        self._text = text

    def annotation(self) -> dict[str, tuple[float, float]]:
        """Where target and goal are in the front image, (u, v) in [0, 1]: labels for training, never an observation."""
        given = self.instructions()[0]
        return {"target_pixel": given.target_pixel, "goal_pixel": given.goal_pixel}

    def close(self) -> None:
        for scene in self._scenes.values():
            scene.close()
        self._scenes.clear()
        if self._gl is not None:
            self._gl.free()
        self._scene = self._gl = None

    def _context(self) -> Any:
        """The one OpenGL context of all scenes."""
        if self._gl is None:
            self._gl = mujoco.GLContext(self.obs_size, self.obs_size)
        return self._gl

    def _open(self, name: str) -> TaskScene:
        if name not in self._scenes:
            while len(self._scenes) >= KEPT:
                self._scenes.popitem(last=False)[1].close()
            self._scenes[name] = TaskScene(name, task_table()[name], self.obs_size, self._high_quality, self._context)
        self._scenes.move_to_end(name)
        return self._scenes[name]

    def _play_on(self, rng: np.random.Generator) -> None:
        """Let MetaWorld's expert begin, with a hand less sure than its own: a moment in the middle of the task."""
        from vla.evaluation.suites.metaworld.experts import make_expert

        expert = make_expert(self, rng)
        for _ in range(int(rng.integers(LONGEST_PLAY))):
            if self.scene.step(to_metaworld(expert.perturb(expert.act())))[1]:
                break

    def _observation(self) -> dict[str, Any]:
        black = np.zeros((self.obs_size, self.obs_size, 3), np.uint8)
        self._pixels = Pixels(tuple(CAMERAS), self.image if self._render else lambda _: black)
        return {"pixels": self._pixels, "agent_pos": self.scene.observation[:4].astype(np.float32)}

    def _info(self, success: bool) -> dict[str, Any]:
        return {"is_success": success, "task": self.task, "task_description": self._text}


def to_metaworld(action: NDArray[np.float32]) -> NDArray[np.float64]:
    """Metres and opening to MetaWorld's units: (4,) in [-1, 1], effort 1 closes."""
    step, opening = np.asarray(action[:3], np.float64) / STEP, float(action[3])
    return np.append(step, 1 - 2 * opening).clip(-1, 1)


def from_metaworld(action: NDArray[Any]) -> NDArray[np.float32]:
    """The inverse of `to_metaworld`; what MetaWorld would clip is clipped."""
    wanted = np.asarray(action, np.float64).clip(-1, 1)
    return np.append(STEP * wanted[:3], (1 - wanted[3]) / 2).astype(np.float32)
