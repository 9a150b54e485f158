"""The table as a physical thing: its model and state, what is on it, and what its cameras see."""

from collections.abc import Callable

import mujoco
import numpy as np
from numpy.typing import NDArray

from gym_tabletop import arm, scene
from gym_tabletop.cells import class_of_geoms, majority
from gym_tabletop.kinematics import ArmKinematics
from gym_tabletop.layout import Layout
from gym_tabletop.palette import DRAWER
from gym_tabletop.perturbation import Perturbation
from gym_tabletop.rendering import CameraRenderer, project
from gym_tabletop.scene_truth import Scene, Thing


class Table:
    """An arm at a table; nothing here knows of tasks. obs_size: side of the pictures."""

    def __init__(self, obs_size: int, high_quality: bool) -> None:
        self.obs_size, self._high_quality = obs_size, high_quality
        self.model = scene.build_model(obs_size, high_quality)
        self.data = mujoco.MjData(self.model)
        self._pristine = {name: getattr(self.model, name).copy() for name in _MUTABLE}
        self._renderer: CameraRenderer | None = None
        self.perturbation: Perturbation | None = None
        self.kinematics = ArmKinematics()
        self._tool = self.model.site("tool").id
        self._front = self.model.camera("front").id
        self._object_bodies = [self.model.body(f"object{slot}").id for slot in range(scene.SLOTS)]
        self._finger_bodies = {self.model.body(name).id for name in arm.FINGERS}
        self.layout: Layout
        self._joint_target: NDArray[np.float64]
        self._pushed: Callable[[], None] | None = None

    def image(self, camera: str) -> NDArray[np.uint8]:
        """RGB image (S, S, 3) of `camera` as things stand."""
        change = None if self.perturbation is None else self.perturbation.through(fixed=camera == "front")
        return self._camera_renderer().image(self.data, camera, change)

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def agent_pos(self) -> NDArray[np.float32]:
        """What the robot feels: the (17,) of the observation."""
        rotation = self.data.site_xmat[self._tool].reshape(3, 3)
        joints, position = self.data.qpos[:7], self.data.site_xpos[self._tool]
        felt = np.concatenate([joints, position, rotation[:, 0], rotation[:, 1], [self.gripper_opening]])
        return felt.astype(np.float32)

    # What is true of the scene: for labels, experts and success checks.

    def scene(self) -> Scene:
        """Everything on the table as it stands now."""
        things = []
        for slot, pose in enumerate(self.layout.objects):
            place = self.data.xpos[self._object_bodies[slot]]
            things.append(self._thing(pose.pair, "object", place, pose.half))
        for index, (colour, _, _) in enumerate(self.layout.trays):
            things.append(self._thing(f"{colour} tray", "tray", self.data.body(f"tray{index}").xpos, 0.065))
        for index, colour in enumerate(self.layout.panel[1:]):
            things.append(self._thing(f"{colour} button", "button", self.data.body(f"button{index}").xpos, 0.024))
        opened = None
        if self.layout.drawer:
            things.append(self._thing(DRAWER, "drawer", self.data.site("knob").xpos, 0.05))
            opened = float(self.data.joint("drawer").qpos[0] / scene.DRAWER_TRAVEL)
        held = [name for name, fingers in self._touching_fingers().items() if len(fingers) == 2]
        return Scene(tuple(things), held[0] if held else None, self.layout.disc is not None, opened)

    @property
    def gripper_opening(self) -> float:
        """Measured, 0 (closed) to 1 (open)."""
        return float(np.clip(self.data.qpos[7:9].sum() / (2 * arm.FINGER_TRAVEL), 0, 1))

    def cells(self, cell: int = 8) -> NDArray[np.uint8]:
        """What most of each cell of the front image shows, as `gym_tabletop.cells.majority` says it."""
        seen = self._camera_renderer().geometry(self.data, "front")
        return majority(class_of_geoms(self.model, self.layout)[seen], cell)

    def _restore(self) -> None:
        """Undo what layouts and randomisation have written into the model."""
        for name, values in self._pristine.items():
            getattr(self.model, name)[:] = values

    def _place(self, layout: Layout, joints: NDArray[np.float64]) -> None:
        self.layout = layout
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:7] = self.data.ctrl[:7] = joints
        self.data.qpos[7:9] = self.data.ctrl[7:9] = arm.FINGER_TRAVEL
        scene.apply_layout(self.model, self.data, layout)
        mujoco.mj_forward(self.model, self.data)

    def _drive(self, before: NDArray[np.float64], opening: float, rate: float) -> None:
        """In 1 / rate s the joint targets move evenly on from `before`, the fingers' at their speed to `opening`."""
        substeps = round(1 / (rate * scene.TIMESTEP))
        fingers = float(self.data.ctrl[7])
        stride = np.clip(opening * arm.FINGER_TRAVEL - fingers, -arm.FINGER_SPEED / rate, arm.FINGER_SPEED / rate)
        for substep in range(1, substeps + 1):
            self.data.ctrl[:7] = before + (self._joint_target - before) * substep / substeps
            self.data.ctrl[7:9] = fingers + stride * substep / substeps
            if self._pushed:
                self._pushed()
            mujoco.mj_step(self.model, self.data)

    def _thing(self, name: str, kind: str, place: NDArray[np.float64], size: float) -> Thing:
        colour, shape = name.split() if " " in name else ("", name)
        x, y, z = (float(v) for v in place)
        u, v = self._project((x, y, z))
        return Thing(name, colour, shape, kind, (x, y, z), (u, v), 0 <= u <= 1 and 0 <= v <= 1, size)

    def _project(self, place: tuple[float, float, float]) -> tuple[float, float]:
        return project(self.model, self.data, self._front, np.array(place))

    def _touching_fingers(self) -> dict[str, set[int]]:
        names = {self._object_bodies[slot]: pose.pair for slot, pose in enumerate(self.layout.objects)}
        if self.layout.drawer:
            names[self.model.body("drawer").id] = DRAWER
        touching: dict[str, set[int]] = {name: set() for name in names.values()}
        for one, two in self.model.geom_bodyid[self.data.contact.geom]:
            for finger, thing in ((one, two), (two, one)):
                if finger in self._finger_bodies and thing in names:
                    touching[names[thing]].add(int(finger))
        return touching

    def _camera_renderer(self) -> CameraRenderer:
        if self._renderer is None:
            self._renderer = CameraRenderer(self.model, self.obs_size, self._high_quality)
        return self._renderer


_MUTABLE = (
    "geom_rgba", "geom_size", "geom_friction", "geom_rbound", "geom_aabb", "geom_group", "geom_contype",
    "geom_conaffinity", "body_pos", "body_gravcomp", "cam_pos", "cam_quat", "light_pos", "light_dir", "light_diffuse",
)  # fmt: skip
"""Model fields a layout or randomisation writes; every reset starts from their compiled values."""
