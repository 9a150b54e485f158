"""What an action vector says, in every action mode: a vector, a turn and a gripper.

Vectors are in the spec's units, which may be degrees and percent; what they say is in rad, metres and shares of 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from vla.actions.poses import Matrix
from vla.actions.rotations import FROM_MATRIX, TO_MATRIX, matrix_to_rot6d, rot6d_to_matrix
from vla.errors import UserError
from vla.spec import Field, RobotSpec, si_scale

Action = Float[np.ndarray, " A"]


_ROUGH = 0.1
"""How far what a policy writes for a rotation may be from one."""
_LARGEST_TURN = 100.0
"""No entry of a written rotation (rad or 1) is larger in earnest."""


@dataclass(frozen=True)
class Command:
    """vector: joints (N,) in rad or rad/s, or a tool position or translation (3,) in metres. turn: the tool's rotation
    or its change, None in joint modes. gripper: (G,) in the spec's convention, G = 0 without one.
    """

    vector: Float[np.ndarray, " D"]
    turn: Matrix | None
    gripper: Float[np.ndarray, " G"]


class ActionLayout:
    """Where a spec's action vector keeps its parts. Raises UserError for fields the action mode has no meaning for."""

    def __init__(self, spec: RobotSpec) -> None:
        self.spec = spec
        self.mode = spec.action.mode
        self.size = spec.action_size
        self.is_cartesian = self.mode in ("ee_delta", "ee_pose")
        self.names = [field.name for field in spec.action.fields for _ in range(field.size)]
        self._slices = spec.action_slices
        self._scale = si_scale(spec.action.fields)
        self._gripper = self._slices.get("gripper", slice(0, 0))
        moving = [field for field in spec.action.fields if field.name != "gripper"]
        self._turn = next((field for field in moving if field.rotation), None) if self.is_cartesian else None
        vectors = [field for field in moving if field is not self._turn]
        self._check(vectors, moving)
        self._vector = np.concatenate([np.arange(self.size)[self._slices[field.name]] for field in vectors])

    @property
    def gripper_range(self) -> tuple[float, float]:
        """0 to 1 for a share of the opening, `limits.gripper` for metres and angles."""
        field = next((field for field in self.spec.action.fields if field.name == "gripper"), None)
        limits = self.spec.limits
        if field is not None and field.unit in ("m", "rad", "deg") and limits is not None and limits.gripper:
            return limits.gripper
        return (0.0, 1.0)

    def opening(self, gripper: float) -> float:
        """How far open that is, from 0 to 1."""
        low, high = self.gripper_range
        share = float(np.clip((gripper - low) / (high - low), 0, 1))
        return 1 - share if self.spec.action.gripper == "0 = open, 1 = closed" else share

    @property
    def gripper_size(self) -> int:
        return len(range(*self._gripper.indices(self.size)))

    def decode(self, action: Action) -> Command:
        action = np.asarray(action, np.float64) * self._scale
        turn: Any = None
        if self._turn is not None:
            turn = self._written_turn(action)
            if self._turn.rotation == "matrix":  # it is only nearly a rotation; its first two columns make it one
                turn = rot6d_to_matrix(matrix_to_rot6d(turn))
        return Command(action[self._vector], turn, action[self._gripper])

    def encode(self, command: Command) -> Action:
        action = np.zeros(self.size)
        action[self._vector] = command.vector
        if self._turn is not None and command.turn is not None:
            action[self._slices[self._turn.name]] = FROM_MATRIX[str(self._turn.rotation)](command.turn)
        action[self._gripper] = command.gripper
        return action / self._scale

    def fault(self, action: object) -> str | None:
        """Why this cannot be a command at all: "wrong_size", "non_finite.<field>", "no_rotation.<field>", or None.

        Never raises.
        """
        try:
            values = np.asarray(action, np.float64)
        except (TypeError, ValueError):
            return "wrong_size"
        if values.shape != (self.size,):
            return "wrong_size"
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            return f"non_finite.{self.names[bad[0]]}"
        if self._turn is not None and not self._is_rotation(values * self._scale):
            return f"no_rotation.{self._turn.name}"
        return None

    def _written_turn(self, action: Action) -> Matrix:
        assert self._turn is not None
        return TO_MATRIX[str(self._turn.rotation)](action[self._slices[self._turn.name]])

    def _is_rotation(self, action: Action) -> bool:
        """Not zero, not huge, not mirrored: a quaternion of length about 1, or what makes about a rotation matrix."""
        assert self._turn is not None
        written = action[self._slices[self._turn.name]]
        if np.abs(written).max() > _LARGEST_TURN:
            return False
        if self._turn.rotation == "quaternion_xyzw":
            return bool(abs(np.linalg.norm(written) - 1) <= _ROUGH)
        if self._turn.rotation in ("axis_angle", "rpy"):
            return True
        turn = self._written_turn(action)
        return bool(np.abs(turn @ turn.T - np.eye(3)).max() < _ROUGH and np.linalg.det(turn) > 0)

    def _check(self, vectors: list[Field], moving: list[Field]) -> None:
        where = f"robot spec: {self.spec.name}, action mode {self.mode}"
        size = sum(field.size for field in vectors)
        if self.is_cartesian:
            if [field.unit for field in vectors] != ["m"] or size != 3:
                listed = ", ".join(field.name for field in vectors) or "none"
                raise UserError(f"{where}: needs one position of 3 in m beside rotation and gripper, has {listed}")
            base = self.spec.kinematics.base_frame if self.spec.kinematics else "base"
            for field in moving:
                if field.frame not in (None, base):
                    raise UserError(f"{where}: {field.name} is in frame {field.frame}; only {base} can be commanded")
        elif self.spec.kinematics and size != len(self.spec.kinematics.joints):
            joints = len(self.spec.kinematics.joints)
            raise UserError(f"{where}: the action moves {size} joints, kinematics.joints has {joints}")
