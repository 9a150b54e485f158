"""What should not matter to a policy: other light, a camera that was moved, things that stand about.

They are put into the picture alone, between the update of MuJoCo's abstract scene and its rendering: model and data,
and with them motion, labels and success, stay what they are to the last bit.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

LOOKS = ("distractors", "light", "camera")
CAMERA_SHIFT, CAMERA_TURN = (0.02, 0.05), (0.02, 0.05)
"""How far a camera is moved (m) and turned (rad), in a random direction."""
BRIGHTER, DARKER, TINT = (1.25, 1.6), (0.45, 0.75), (0.85, 1.1)
SUN_SHIFT, SUN_TURN = 0.6, 0.3
"""How far lamps are moved (m), and their directions, at most per axis."""
COUNT = (3, 6)
HALF_SIZE = (0.018, 0.032)
CLEARANCE = 0.03
"""Between a distractor and everything else on the table, where there is room (m)."""
TRIES = 80
LARGEST, HIGHEST = 0.3, 0.35
"""Geoms with a larger radius are table and walls, those higher above it are in nobody's way (m)."""
_TYPES = (mujoco.mjtGeom.mjGEOM_ELLIPSOID, mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_BOX)
_COLOURS = ((0.52, 0.30, 0.62), (0.93, 0.60, 0.72), (0.38, 0.24, 0.15), (0.15, 0.58, 0.60), (0.93, 0.92, 0.88))
"""None that a task of the tabletop names."""


@dataclass(frozen=True)
class Area:
    """Where distractors may stand: corners (x, y) of a rectangle, and the height of its top (m)."""

    low: tuple[float, float]
    high: tuple[float, float]
    height: float = 0.0


@dataclass(frozen=True)
class Distractor:
    """A thing that is only seen. place (3,) m, rotation (3, 3)."""

    type: mujoco.mjtGeom
    size: NDArray[np.float64]
    place: NDArray[np.float64]
    rotation: NDArray[np.float64]
    colour: tuple[float, float, float]


class Perturbation:
    """Some of LOOKS, drawn for one episode from its seed alone; each is the same with and without the others.

    model, data: the scene at its beginning; distractors keep clear of what stands in `area` then.
    """

    def __init__(self, looks: Sequence[str], seed: int, model: mujoco.MjModel, data: mujoco.MjData, area: Area) -> None:
        rngs = {look: np.random.default_rng([seed, 7, LOOKS.index(look)]) for look in looks}
        self._gain: NDArray[np.float64] | None = None
        self._camera: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        if rng := rngs.get("light"):
            gain = rng.uniform(*(BRIGHTER if rng.random() < 0.5 else DARKER))
            self._gain = gain * rng.uniform(*TINT, 3)
            self._shift, self._turn = rng.uniform(-SUN_SHIFT, SUN_SHIFT, 3), rng.uniform(-SUN_TURN, SUN_TURN, 3)
        if rng := rngs.get("camera"):
            self._camera = (
                _direction(rng) * rng.uniform(*CAMERA_SHIFT),
                _rotation(_direction(rng), rng.uniform(*CAMERA_TURN)),
            )
        self.distractors = _distractors(rngs["distractors"], model, data, area) if "distractors" in rngs else []

    def through(self, fixed: bool) -> Callable[[mujoco.MjvScene], None]:
        """What to do to a scene that is about to be rendered. fixed: the camera stands still, and so may be moved.

        Raises RuntimeError if the scene has no room for more geoms.
        """
        return functools.partial(self._apply, fixed=fixed)

    def _apply(self, scene: mujoco.MjvScene, fixed: bool) -> None:
        if self._gain is not None:
            for light in scene.lights[: scene.nlight]:
                light.diffuse, light.ambient = light.diffuse * self._gain, light.ambient * self._gain
                light.pos = light.pos + self._shift
                turned = light.dir + self._turn
                light.dir = turned / np.linalg.norm(turned)
        if self._camera is not None and fixed:
            shift, turn = self._camera
            for camera in scene.camera:
                camera.pos = camera.pos + shift
                camera.forward, camera.up = turn @ camera.forward, turn @ camera.up
        for one in self.distractors:
            if scene.ngeom >= scene.maxgeom:
                raise RuntimeError(f"a scene of {scene.maxgeom} geoms has no room for distractors")
            geom = scene.geoms[scene.ngeom]
            rgba = np.array([*one.colour, 1], np.float32)
            mujoco.mjv_initGeom(geom, one.type.value, one.size, one.place, one.rotation.ravel(), rgba)
            scene.ngeom += 1


def _distractors(rng: np.random.Generator, model: mujoco.MjModel, data: mujoco.MjData, area: Area) -> list[Distractor]:
    taken = _standing(model, data, area)
    found = []
    for _ in range(int(rng.integers(*COUNT))):
        half = rng.uniform(*HALF_SIZE)
        spots = rng.uniform(area.low, area.high, (TRIES, 2))
        gaps = np.min(
            [np.linalg.norm(spots - centre, axis=1) - radius for centre, radius in taken], axis=0, initial=np.inf
        )
        wide = np.flatnonzero(gaps > 1.5 * half + CLEARANCE)
        spot = spots[wide[0] if len(wide) else int(np.argmax(gaps))]
        taken.append((spot, 1.5 * half))
        kind = _TYPES[int(rng.integers(len(_TYPES)))]
        size = np.array([half, half * rng.uniform(0.6, 1), half * rng.uniform(0.6, 1)])
        if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
            size[:2] = 0.7 * half, 0.6 * half
        tall = size[0] + size[1] if kind == mujoco.mjtGeom.mjGEOM_CAPSULE else size[2]
        place = np.array([*spot, area.height + tall])
        colour = _COLOURS[int(rng.integers(len(_COLOURS)))]
        found.append(Distractor(kind, size, place, _rotation(np.array([0, 0, 1]), rng.uniform(0, np.pi)), colour))
    return found


def _standing(model: mujoco.MjModel, data: mujoco.MjData, area: Area) -> list[tuple[NDArray[np.float64], float]]:
    """Centre (2,) and radius of everything on or just above the table, marks included."""
    above = data.geom_xpos[:, 2] - area.height
    near = (model.geom_rbound > 0) & (model.geom_rbound < LARGEST) & (np.abs(above) < HIGHEST)
    geoms = [(data.geom_xpos[i, :2], float(model.geom_rbound[i])) for i in np.flatnonzero(near)]
    return geoms + [(place[:2], 0.02) for place in data.site_xpos if abs(place[2] - area.height) < HIGHEST]


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def _rotation(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Matrix (3, 3) of a turn by `angle` (rad) about a unit axis."""
    quat, matrix = np.zeros(4), np.zeros(9)
    mujoco.mju_axisAngle2Quat(quat, np.asarray(axis, np.float64), angle)
    mujoco.mju_quat2Mat(matrix, quat)
    return matrix.reshape(3, 3)
