"""Domain randomisation: what a scene looks like, never what is where."""

import mujoco
import numpy as np


def randomize_look(model: mujoco.MjModel, rng: np.random.Generator) -> None:
    """Vary colours, table, light and front camera pose of a model whose layout is set; call before mj_forward."""
    rgb = model.geom_rgba[:, :3]
    rgb *= rng.uniform(0.85, 1.15, (model.ngeom, 1)) * rng.uniform(0.93, 1.07, (model.ngeom, 3))
    model.geom("table").rgba[:3] = rng.uniform(0.35, 0.85) * rng.uniform(0.85, 1.15, 3)
    np.clip(rgb, 0, 1, out=rgb)
    model.light("sun").pos[:] += rng.uniform(-0.4, 0.4, 3)
    model.light("sun").diffuse[:] *= rng.uniform(0.6, 1.3)
    model.camera("front").pos[:] += rng.uniform(-0.02, 0.02, 3)
    tilt, turned = np.zeros(4), np.zeros(4)
    angle = rng.uniform(-0.015, 0.015, 3)
    mujoco.mju_axisAngle2Quat(tilt, angle / (np.linalg.norm(angle) + 1e-9), float(np.linalg.norm(angle)))
    mujoco.mju_mulQuat(turned, model.camera("front").quat, tilt)
    model.camera("front").quat[:] = turned
