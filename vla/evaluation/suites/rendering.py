"""Pictures of other people's scenes, many models on one OpenGL context."""

from collections.abc import Callable, Iterator, Mapping

import mujoco
import numpy as np
from numpy.typing import NDArray

from gym_tabletop.rendering import leave_out_costly

_FONT = mujoco.mjtFontScale.mjFONTSCALE_50.value
_MOST_GEOMS = 400

Change = Callable[[mujoco.MjvScene], None]


class ModelRenderer:
    """Pictures (height, width, 3) of one model. `gl` stays the caller's; close this before it.

    Without `high_quality`, shadows, reflections, skybox and multisampling are off. Sites are drawn, as the benchmarks
    draw them: they mark goals.
    """

    def __init__(
        self, gl: "mujoco.GLContext", model: mujoco.MjModel, height: int, width: int, high_quality: bool = False
    ) -> None:
        self._gl, self._model = gl, model
        self._view = mujoco.MjrRect(0, 0, width, height)
        gl.make_current()
        quality, buffer = model.vis.quality, model.vis.global_
        wanted = (quality, "offsamples", 0), (quality, "shadowsize", 0)
        sizes = (buffer, "offwidth", width), (buffer, "offheight", height)
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in (*wanted, *sizes)]
        for owner, name, value in sizes if high_quality else (*wanted, *sizes):
            setattr(owner, name, value)
        self._context = mujoco.MjrContext(model, _FONT)
        for owner, name, value in before:
            setattr(owner, name, value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mujoco.MjvScene(model, _MOST_GEOMS)
        if not high_quality:
            leave_out_costly(self._scene)

    def image(self, data: mujoco.MjData, camera: int, change: Change | None = None) -> NDArray[np.uint8]:
        """RGB as camera `camera` (its id) sees `data`. change: what to do to the abstract scene before."""
        return self._draw(data, camera, change)

    def geometry(self, data: mujoco.MjData, camera: int) -> NDArray[np.int64]:
        """What is seen at each pixel (height, width): a geom's id, -2 - id for a site, -1 for nothing."""
        segment = (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR)
        for flag in segment:
            self._scene.flags[flag] = 1
        colours = self._draw(data, camera).astype(np.int64)
        for flag in segment:
            self._scene.flags[flag] = 0
        seen = np.full(self._scene.ngeom + 1, -1, np.int64)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                seen[geom.segid + 1] = geom.objid
            elif geom.objtype == mujoco.mjtObj.mjOBJ_SITE:
                seen[geom.segid + 1] = -2 - geom.objid
        return seen[colours @ (1, 256, 65536)]

    def close(self) -> None:
        self._gl.make_current()
        self._context.free()

    def _draw(self, data: mujoco.MjData, camera: int, change: Change | None = None) -> NDArray[np.uint8]:
        self._gl.make_current()
        mujoco.mjr_restoreBuffer(self._context)  # another model may have been drawn last
        view = mujoco.MjvCamera()
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, camera
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, mujoco.MjvOption(), None, view, everything, self._scene)
        if change is not None:
            change(self._scene)
        pixels = np.empty((self._view.height, self._view.width, 3), np.uint8)
        mujoco.mjr_render(self._view, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, None, self._view, self._context)
        return pixels[::-1]  # OpenGL counts rows from below


class Pixels(Mapping[str, NDArray[np.uint8]]):
    """Pictures of one moment, rendered when first asked for; a loop that replans every few steps never asks for most.

    Raises RuntimeError if asked for the first time after the scene has moved on.
    """

    def __init__(self, cameras: tuple[str, ...], render: Callable[[str], NDArray[np.uint8]]) -> None:
        self._cameras, self._seen = cameras, dict[str, NDArray[np.uint8]]()
        self._render: Callable[[str], NDArray[np.uint8]] | None = render

    def __getitem__(self, camera: str) -> NDArray[np.uint8]:
        if camera not in self._cameras:
            raise KeyError(camera)
        if camera not in self._seen:
            if self._render is None:
                raise RuntimeError(f"the scene has moved on: nobody looked through camera {camera} in time")
            self._seen[camera] = self._render(camera)
        return self._seen[camera]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cameras)

    def __len__(self) -> int:
        return len(self._cameras)

    def expire(self) -> None:
        """The scene moves on."""
        self._render = None
