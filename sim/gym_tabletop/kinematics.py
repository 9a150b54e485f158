"""Forward and differential inverse kinematics of the arm, and the integration of end-effector deltas."""

import mujoco
import numpy as np
from numpy.typing import NDArray

from gym_tabletop import arm

Array = NDArray[np.float64]

WORKSPACE_LOW = np.array([0.25, -0.40, 0.012])
WORKSPACE_HIGH = np.array([0.80, 0.40, 0.60])
"""Box the commanded tool position is kept in (m, base frame)."""


def axis_angle_matrix(vector: Array) -> Array:
    """Rotation matrix (3, 3) of an axis-angle vector (3,) in rad."""
    quat, matrix = np.zeros(4), np.zeros(9)
    angle = float(np.linalg.norm(vector))
    mujoco.mju_axisAngle2Quat(quat, vector / angle if angle > 1e-12 else np.array([1.0, 0, 0]), angle)
    mujoco.mju_quat2Mat(matrix, quat)
    return matrix.reshape(3, 3)


def rotation_error(goal: Array, current: Array) -> Array:
    """Axis-angle vector (3,), rad, base frame, that turns `current` (3, 3) into `goal` (3, 3)."""
    quat, vector = np.zeros(4), np.zeros(3)
    mujoco.mju_mat2Quat(quat, (goal @ current.T).ravel())
    mujoco.mju_quat2Vel(vector, quat, 1.0)
    return vector


def integrate_delta(position: Array, rotation: Array, delta: Array) -> tuple[Array, Array]:
    """The commanded tool pose after a delta: translation (3, m) then axis-angle (3, rad), both in the base frame.

    `position` (3,) and `rotation` (3, 3) are the last *commanded* pose: integrating onto the measured one would
    let a loaded arm sag. The position is clipped to the workspace box.
    """
    moved = np.clip(position + delta[:3], WORKSPACE_LOW, WORKSPACE_HIGH)
    turned = axis_angle_matrix(delta[3:6]) @ rotation
    u, _, vt = np.linalg.svd(turned)  # stays a rotation over thousands of steps
    return moved, u @ vt


class ArmKinematics:
    """Kinematics of the arm alone, on data of its own: nothing here touches the simulation."""

    def __init__(self) -> None:
        spec = mujoco.MjSpec()
        spec.compiler.degree = False
        arm.add_arm(spec)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._site = self._model.site("tool").id
        self._jacobian = np.zeros((6, self._model.nv))

    def forward(self, joints: Array) -> tuple[Array, Array]:
        """Tool position (3,) in metres and rotation (3, 3) at `joints` (7,) in rad."""
        self._data.qpos[:7] = joints
        mujoco.mj_kinematics(self._model, self._data)
        return self._data.site_xpos[self._site].copy(), self._data.site_xmat[self._site].reshape(3, 3).copy()

    def inverse(self, start: Array, position: Array, rotation: Array, iterations: int = 6) -> Array:
        """Joints (7,) near `start` whose tool pose is nearest the wanted one (damped least squares, Buss 2004).

        The redundant degree of freedom is pulled towards the home posture. Joint limits are respected; the
        result is the best found, even where the pose is out of reach.
        """
        joints = start.copy()
        for _ in range(iterations):
            here, facing = self.forward(joints)
            error = np.concatenate([position - here, rotation_error(rotation, facing)])
            mujoco.mj_comPos(self._model, self._data)
            mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._site)
            jacobian = self._jacobian[:, :7]
            damped = jacobian @ jacobian.T + 1e-4 * np.eye(6)
            posture = 0.05 * (arm.HOME - joints)
            step = posture + jacobian.T @ np.linalg.solve(damped, error - jacobian @ posture)
            joints = np.clip(joints + step, arm.POSITION_LOW, arm.POSITION_HIGH)
        return joints
