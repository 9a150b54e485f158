"""The two simulated tasks of ALOHA (arXiv 2304.13705, `gym-aloha`): a cube handed over, a peg inserted.

As LeRobot evaluates them: seed s places the objects by `gym_aloha`'s own sampler, an episode lasts at most 400 steps of
50 Hz, and success is the highest reward, 4, at any step. Seen from above (`top`, here `front`); images are rendered
when looked at, only that one.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gym_aloha.env import AlohaEnv as OriginalEnv
from gym_aloha.tasks.sim import BimanualViperXTask
from gymnasium import spaces
from numpy.typing import NDArray

from gym_tabletop.perturbation import Area, Perturbation
from vla.evaluation.suites import Request
from vla.evaluation.suites.rendering import ModelRenderer, Pixels
from vla.robots.benchmarks import ALOHA_TASKS

HORIZON = 400
SENTENCES = {
    "transfer_cube": "Pick up the cube with the right arm and transfer it to the left arm",
    "insertion": "Insert the peg into the socket",
}
HELD_OUT = {
    "transfer_cube": (
        "grab the cube with your right hand and give it to the left one",
        "pass the cube from right to left",
    ),
    "insertion": ("put the peg in the socket", "join the two pieces: the peg goes into the socket"),
}
FULL_REWARD = 4
AREA = Area((-0.28, 0.35), (0.28, 0.75))
"""Where distractors may stand."""


class AlohaEnv(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """Seed s plays task s modulo the number of tasks, under `gym_aloha`'s seed s.

    Observation: `pixels` {"front"}: uint8 (H, 4 H / 3, 3); `agent_pos` float32 (14,): per arm six joints (rad) and the
    gripper (1 = open). Action float32 (14,): the same, as targets.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012  gymnasium's instance variable

    def __init__(
        self,
        task: str = "all",
        split: str = "all",
        obs_size: int = 480,
        perturb: Sequence[str] = (),
        render_mode: str | None = "rgb_array",
    ) -> None:
        self.perturb = tuple(perturb)
        self._perturbation: Perturbation | None = None
        self.names = ALOHA_TASKS if task == "all" else (task,)
        self.obs_size, self.render_mode, self._max_episode_steps = obs_size, render_mode, HORIZON
        self._envs: dict[str, Any] = {}
        self._renderers: dict[str, ModelRenderer] = {}
        self._gl: Any = None
        self._pixels: Pixels | None = None
        picture = spaces.Box(0, 255, (obs_size, self._width, 3), np.uint8)
        joints = spaces.Box(-10.0, 10.0, (14,), np.float32)
        self.observation_space = spaces.Dict({"pixels": spaces.Dict({"front": picture}), "agent_pos": joints})
        low = np.array(2 * [*[-np.pi] * 6, 0.0], np.float32)
        high = np.array(2 * [*[np.pi] * 6, 1.0], np.float32)
        self.action_space = spaces.Box(low, high, dtype=np.float32)

    @property
    def task(self) -> str:
        return self._name

    @property
    def task_description(self) -> str:
        return self._text

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self._name = self.names[seed % len(self.names)]
        self._text = SENTENCES[self._name]
        if self._name not in self._envs:
            self._envs[self._name] = _original(self._name)
        observation, _ = self._envs[self._name].reset(seed=seed)
        if self.perturb:
            self._perturbation = Perturbation(self.perturb, seed, *self.physics(), AREA)
        return self._observation(observation["agent_pos"]), {"is_success": False}

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        if not np.all(np.isfinite(action)):
            raise ValueError(f"action has a value that is not finite: {action}")
        if self._pixels is not None:
            self._pixels.expire()
        observation, reward, _, _, _ = self._envs[self._name].step(np.asarray(action, np.float64))
        success = reward == FULL_REWARD
        return self._observation(observation["agent_pos"]), float(reward), success, False, {"is_success": success}

    def instructions(self) -> list[Request]:
        sentences = {"train": (SENTENCES[self.task],), "phrasing": HELD_OUT[self.task]}
        return [Request(text, self.task, split=split) for split, texts in sentences.items() for text in texts]

    def paraphrases(self) -> list[str]:
        """What is asked now, in other words."""
        return list(HELD_OUT[self.task])

    def others(self) -> list[str]:
        """What the other task is asked for in; that is not judged here."""
        return [text for name, text in SENTENCES.items() if name != self.task]

    def set_instruction(self, text: str) -> None:
        if all(text != one.text for one in self.instructions()):
            raise ValueError(f"{text!r} is not what {self.task} asks for")
        self._text = text

    def image(self, camera: str) -> NDArray[np.uint8]:
        """RGB (H, W, 3) from above."""
        model, data = self.physics()
        if self._name not in self._renderers:
            self._gl = self._gl or mujoco.GLContext(self._width, self.obs_size)
            self._renderers[self._name] = ModelRenderer(self._gl, model, self.obs_size, self._width)
        change = None if self._perturbation is None else self._perturbation.through(fixed=True)
        return np.ascontiguousarray(self._renderers[self._name].image(data, model.camera("top").id, change))

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
        if self._gl is not None:
            self._gl.free()
        self._gl = None

    @property
    def _width(self) -> int:
        return self.obs_size * 4 // 3

    def physics(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        physics = self._envs[self._name]._env.physics
        return physics.model.ptr, physics.data.ptr

    def _observation(self, joints: NDArray[np.float64]) -> dict[str, Any]:
        self._pixels = Pixels(("front",), self.image)
        return {"pixels": self._pixels, "agent_pos": joints.astype(np.float32)}


def _original(task: str) -> Any:
    """gym_aloha's environment, but for the three large pictures it would render at every step."""
    env = OriginalEnv(task, obs_type="pixels_agent_pos")

    def without_pictures(physics: Any) -> dict[str, Any]:
        return {"qpos": BimanualViperXTask.get_qpos(physics), "images": {"top": np.zeros(0)}}

    env._env.task.get_observation = without_pictures
    return env
