"""Where the tool of a robot is at given joints, and which joints bring it somewhere: MuJoCo on the spec's model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from vla import assets
from vla.actions.poses import Matrix, Position
from vla.actions.rotations import matrix_to_axis_angle
from vla.errors import UserError
from vla.spec import Kinematics

Joints = Float[np.ndarray, " N"]

DAMPING = 1e-4
POSTURE_GAIN = 0.002
"""Share of the way back to the preferred posture per call, in the directions that do not move the tool."""
_STEP_LIMIT = 0.2
"""Largest pose error (m, rad) one iteration works on: the linearisation holds no further."""
_STIFFER = 30.0
"""So much more damping has the next step after one that led further away."""
_PULLED = 1e-4
"""Pose error (m, rad) that the pull towards the posture may leave for the next step to mend."""
CLOSE = 1e-7
"""Pose error (m, rad) at which the inverse is good enough."""


class ArmKinematics:
    """Kinematics of the joints and the tool a spec names; poses are in its base frame.

    Raises UserError if the model cannot be read or lacks a joint or frame.
    """

    def __init__(self, kinematics: Kinematics) -> None:
        try:
            path = assets.find("robot", kinematics.model)
        except UserError:
            what = f"kinematics.model: there is no file {kinematics.model}, neither beside the spec nor in {Path.cwd()}"
            raise UserError(what) from None
        try:
            self._model = mujoco.MjModel.from_xml_path(str(path))
        except ValueError as error:
            raise UserError(f"kinematics.model: MuJoCo cannot read {path}: {error}") from None
        self._data = mujoco.MjData(self._model)
        joints = [self._find("joint", mujoco.mjtObj.mjOBJ_JOINT, name) for name in kinematics.joints]
        self._qpos = self._model.jnt_qposadr[joints]
        self._dofs = self._model.jnt_dofadr[joints]
        base = self._find("base_frame", mujoco.mjtObj.mjOBJ_BODY, kinematics.base_frame)
        moving = [name for name, joint in zip(kinematics.joints, joints, strict=True) if self._moves(joint, base)]
        if moving:
            raise UserError(f"kinematics: base_frame {kinematics.base_frame} is moved by joint {moving[0]}")
        self._tool, self._tool_is_site = self._find_tool(kinematics.tool_frame)
        # Views of what MuJoCo works on: each access of an attribute of its data makes another.
        data = self._data
        places, turns = (data.site_xpos, data.site_xmat) if self._tool_is_site else (data.xpos, data.xmat)
        self._configuration = data.qpos
        self._tool_place, self._tool_turn = places[self._tool], turns[self._tool].reshape(3, 3)
        self._jacobian = np.zeros((6, self._model.nv))
        mujoco.mj_kinematics(self._model, self._data)
        self._origin = self._data.xpos[base].copy()
        self._to_base = self._data.xmat[base].reshape(3, 3).T.copy()

    def forward(self, joints: Joints) -> tuple[Position, Matrix]:
        """Tool position (3,) in metres and rotation (3, 3) at `joints` (N,) in rad."""
        self._place(joints)
        return self._to_base @ (self._tool_place - self._origin), self._to_base @ self._tool_turn

    def positions(self, path: Float[np.ndarray, "T N"]) -> Float[np.ndarray, "T 3"]:
        """The tool position at each sample of a joint path."""
        places = np.empty((len(path), 3))
        for place, joints in zip(places, path, strict=True):
            self._place(joints)
            place[:] = self._tool_place
        return (places - self._origin) @ self._to_base.T

    def jacobian(self, joints: Joints) -> Float[np.ndarray, "6 N"]:
        """Tool velocity (m/s) and angular velocity (rad/s), in the base frame, per joint velocity (rad/s)."""
        self._place(joints)
        mujoco.mj_comPos(self._model, self._data)
        take = mujoco.mj_jacSite if self._tool_is_site else mujoco.mj_jacBody
        take(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._tool)
        columns = self._jacobian[:, self._dofs]
        return (self._to_base @ columns.reshape(2, 3, -1)).reshape(6, -1)

    def inverse(
        self,
        start: Joints,
        position: Position,
        rotation: Matrix,
        posture: Joints,
        low: Joints,
        high: Joints,
        iterations: int = 4,
    ) -> tuple[Joints, float]:
        """Joints (N,) near `start`, within [low, high], whose tool pose is nearest the wanted one, and the error left.

        Damped least squares (Buss 2004); freedom that is left over is pulled towards `posture`. The error is in
        metres or radians, whichever is larger. A few iterations bring a sample's worth of motion to rounding; a far
        pose is approached over several samples. No step leads further away (Levenberg-Marquardt), so for a pose out of
        reach the joints settle where they come nearest.
        """
        joints = np.clip(start, low, high)
        pull = POSTURE_GAIN * (posture - joints)
        error, damping = self._error(joints, position, rotation), 1.0
        for _ in range(iterations):
            size = float(np.abs(error).max())
            if size < CLOSE and not pull.any():
                break
            if damping == 1.0:  # otherwise they are those of the try before
                jacobian = self.jacobian(joints)
                square = jacobian @ jacobian.T
            wanted = error * min(1.0, _STEP_LIMIT / max(size, CLOSE)) - jacobian @ pull
            # Damped where the error is large and the arm may be near a singularity; exact where it is small.
            damped = square + damping * DAMPING * min(1.0, 10 * size + 1e-3) * np.eye(6)
            tried = np.clip(joints + pull + jacobian.T @ np.linalg.solve(damped, wanted), low, high)
            left = self._error(tried, position, rotation)
            if np.linalg.norm(left) <= max(float(np.linalg.norm(error)), _PULLED):
                joints, error, damping = tried, left, 1.0
            else:
                damping *= _STIFFER
            pull = np.zeros_like(joints)
        return joints, float(np.abs(error).max())

    def _error(self, joints: Joints, position: Position, rotation: Matrix) -> Float[np.ndarray, " 6"]:
        here, facing = self.forward(joints)
        return np.concatenate([position - here, matrix_to_axis_angle(rotation @ facing.T)])

    def _place(self, joints: Joints) -> None:
        self._configuration[self._qpos] = joints
        mujoco.mj_kinematics(self._model, self._data)

    def _moves(self, joint: int, body: int) -> bool:
        """Whether the body hangs on the joint."""
        while body and body != self._model.jnt_bodyid[joint]:
            body = self._model.body_parentid[body]
        return bool(body)

    def _find(self, what: str, kind: Any, name: str) -> int:
        found = mujoco.mj_name2id(self._model, kind, name)
        if found < 0:
            sizes = [(kind, self._model.njnt if what == "joint" else self._model.nbody)]
            if what == "tool_frame":
                sizes.append((mujoco.mjtObj.mjOBJ_SITE, self._model.nsite))
            names = [mujoco.mj_id2name(self._model, of, i) for of, size in sizes for i in range(size)]
            raise UserError(f"kinematics: the model has no {what} {name!r}; it has {', '.join(filter(None, names))}")
        return int(found)

    def _find_tool(self, name: str) -> tuple[int, bool]:
        site = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_SITE, name)
        return (int(site), True) if site >= 0 else (self._find("tool_frame", mujoco.mjtObj.mjOBJ_BODY, name), False)
