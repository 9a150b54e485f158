"""Camera images of a scene, fast enough for training on a laptop's software rasteriser."""

import math
from collections.abc import Callable

import mujoco
import numpy as np
from numpy.typing import NDArray

_COSTLY = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SKYBOX)


class CameraRenderer:
    """One OpenGL context, square images of `size` pixels. Close it: a context left to the interpreter's exit complains.

    Without `high_quality`, shadows, reflections and multisampling are off: some fifty times faster on Mesa's
    software rasteriser.
    """

    def __init__(self, model: mujoco.MjModel, size: int, high_quality: bool) -> None:
        self._renderer = mujoco.Renderer(model, size, size)
        self._options = mujoco.MjvOption()
        self._options.geomgroup[5] = 0
        self._options.sitegroup[:] = 0
        if not high_quality:
            leave_out_costly(self._renderer.scene)

    def image(
        self, data: mujoco.MjData, camera: str, change: Callable[[mujoco.MjvScene], None] | None = None
    ) -> NDArray[np.uint8]:
        """RGB image (size, size, 3) of `camera`. change: what to do to the abstract scene before it is rendered."""
        self._renderer.update_scene(data, camera, self._options)
        if change is not None:
            change(self._renderer.scene)
        return self._renderer.render().copy()

    def geometry(self, data: mujoco.MjData, camera: str) -> NDArray[np.int32]:
        """Id of the geom seen at each pixel (size, size), -1 where there is none."""
        self._renderer.enable_segmentation_rendering()
        try:
            self._renderer.update_scene(data, camera, self._options)
            ids, kinds = np.moveaxis(self._renderer.render(), -1, 0)
        finally:
            self._renderer.disable_segmentation_rendering()
        return np.where(kinds == int(mujoco.mjtObj.mjOBJ_GEOM), ids, -1).astype(np.int32)

    def close(self) -> None:
        self._renderer.close()


def leave_out_costly(scene: mujoco.MjvScene) -> None:
    """What a software rasteriser takes most of its time for."""
    for flag in _COSTLY:
        scene.flags[flag] = 0


def project(model: mujoco.MjModel, data: mujoco.MjData, camera: int, point: NDArray) -> tuple[float, float]:
    """Where a point (3,) in metres appears in a square image: (u, v) in [0, 1], u to the right and v down.

    camera: its id, since looking one up by name takes longer than the projection.
    """
    x, y, z = data.cam_xmat[camera].reshape(3, 3).T @ (np.asarray(point) - data.cam_xpos[camera])
    scale = 0.5 / math.tan(math.radians(float(model.cam_fovy[camera])) / 2)
    return float(0.5 + scale * x / -z), float(0.5 - scale * y / -z)
