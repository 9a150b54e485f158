"""One task of MetaWorld with its pictures: the original environment, untouched, and cameras around it."""

import sys
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from gym_tabletop.rendering import project
from vla.errors import UserError
from vla.evaluation.suites.metaworld.table import Task
from vla.evaluation.suites.rendering import Change, ModelRenderer

CAMERAS = {"front": "corner2", "wrist": "gripperPOV"}
FRONT_PLACE = (0.75, 0.075, 0.7)
"""Where published evaluations put `corner2` (m); they also turn its pictures by 180 degrees, upright."""
TOO_NEW = (3, 17)
"""The first MuJoCo on which MetaWorld 3.1.1 fails: welds have another shape there."""


class TaskScene:
    """The environment of one task, in the state of a seed, and its pictures of `size` pixels.

    context: gives the OpenGL context when there is something to draw. Raises UserError if the installed MuJoCo is too
    new for MetaWorld.
    """

    def __init__(self, name: str, task: Task, size: int, high_quality: bool, context: Callable[[], Any]) -> None:
        check_mujoco()
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS

        self.name, self.task = name, task
        self.env: Any = ALL_V3_ENVIRONMENTS[name]()
        # As MetaWorld's MT benchmarks do: the goal is part of what the scripted policies read. New places come from
        # the environment's own generator at every reset, not from the fifty goals of `metaworld.MT1`.
        self.env._partially_observable, self.env._set_task_called = False, True
        self.env.__dict__.pop("sawyer_observation_space", None)
        self.env._freeze_rand_vec, self.env.seeded_rand_vec = False, True
        self.env.max_path_length = sys.maxsize  # whoever plays it ends the episode; a robot on a graph goes on
        self.model: mujoco.MjModel = self.env.model
        self.model.camera("corner2").pos = FRONT_PLACE
        self._pristine = {field: getattr(self.model, field).copy() for field in _MUTABLE}
        self._cameras = {camera: self.model.camera(theirs).id for camera, theirs in CAMERAS.items()}
        self._make_renderer = lambda: ModelRenderer(context(), self.model, size, size, high_quality)
        self._renderer: ModelRenderer | None = None
        self._owner = self._thing_of_each_body()
        sites = [i for i in range(self.model.nsite) if "goal" in self.model.site(i).name]
        self._marks = -2 - np.array(sites)
        self.observation = np.zeros(39)

    @property
    def data(self) -> mujoco.MjData:
        return self.env.data

    def reset(self, seed: int) -> None:
        """MetaWorld's own reset under that seed, whatever was played here before."""
        for field, values in self._pristine.items():
            getattr(self.model, field)[:] = values
        self.env.data.qacc_warmstart[:] = 0
        self.env.seed(seed)
        self.observation, _ = self.env.reset()
        # MetaWorld leaves places as they were before the objects were put there; pictures must not show that.
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    @property
    def steps(self) -> int:
        return int(self.env.curr_path_length)

    def step(self, action: NDArray[np.float64]) -> tuple[float, bool]:
        """(4,) in MetaWorld's units; returns reward and success."""
        self.observation, reward, _, _, info = self.env.step(action)
        return float(reward), info["success"] > 0

    def image(self, camera: str, change: Change | None = None) -> NDArray[np.uint8]:
        picture = self._drawing().image(self.data, self._cameras[camera], change)
        return np.ascontiguousarray(picture[::-1, ::-1] if camera == "front" else picture)

    def geometry(self) -> NDArray[np.uint8]:
        """What each pixel of the front image shows: 1 + the place of a thing in `task.things`, or 0."""
        seen = self._drawing().geometry(self.data, self._cameras["front"])[::-1, ::-1]
        owner = self._owner[self.model.geom_bodyid]
        shown = np.where(seen >= 0, owner[seen.clip(0)], 0)
        if "goal mark" in self.task.things:
            shown[np.isin(seen, self._marks)] = 1 + list(self.task.things).index("goal mark")
        return shown.astype(np.uint8)

    def project(self, place: NDArray[np.float64]) -> tuple[float, float]:
        """(u, v) in [0, 1] of the front image, of a place (3,) in metres."""
        u, v = project(self.model, self.data, self._cameras["front"], place)
        return 1 - u, 1 - v

    def target_place(self) -> NDArray[np.float64]:
        """Where what is acted on is now (3,), m."""
        if self.task.target == "goal mark":
            return self.goal_place()
        return np.asarray(self.env._get_pos_objects()[:3])

    def goal_place(self) -> NDArray[np.float64]:
        """Where it has to go (3,), m."""
        return np.asarray(self.env._target_pos)

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self.env.close()

    def _drawing(self) -> ModelRenderer:
        if self._renderer is None:
            self._renderer = self._make_renderer()
        return self._renderer

    def _thing_of_each_body(self) -> NDArray[np.uint8]:
        """Bodies hang below others: the nearest ancestor that is a thing counts; 0 for none."""
        roots = {self.model.body(body).id: i for i, body in enumerate(self.task.things.values(), 1) if body}
        owner = np.zeros(self.model.nbody, np.uint8)
        for body in range(1, self.model.nbody):  # parents come first
            owner[body] = roots.get(body, owner[self.model.body_parentid[body]])
        return owner


_MUTABLE = ("body_pos", "site_pos")
"""Model fields that tasks write at their resets."""


def check_mujoco() -> None:
    """UserError if this MuJoCo is too new for MetaWorld."""
    version = tuple(int(part) for part in mujoco.__version__.split(".")[:2])
    if version >= TOO_NEW:
        needs = ".".join(map(str, TOO_NEW))
        raise UserError(f"MetaWorld needs MuJoCo below {needs}, this is {mujoco.__version__}: {MUJOCO_LINE}")


MUJOCO_LINE = "pip install 'mujoco==3.3.0'"
