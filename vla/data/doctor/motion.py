"""Commands and what came of them: the one relation every robot's data has, on which most conventions can be tested.

A *pair* is a part of the action beside the part of the state that it moves, both as movement per step. Where they
are recorded under one convention they go together; a wrong rotation order, unit, sign or lag pulls them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from vla.actions import rotations
from vla.data.doctor.recording import Recording
from vla.data.lerobot_v3 import ACTION, STATE
from vla.spec import Field, RobotSpec, field_slices

Steps = Float[np.ndarray, "T D"]


@dataclass(frozen=True)
class Pair:
    """command, response: episode -> (T, D); row t: what was asked for at t, and what moved from t to t + 1.

    kind: "position" (lengths or joint angles) or "rotation". first: the frame that row 0 is about.
    """

    name: str
    kind: str
    command: Mapping[int, Steps]
    response: Mapping[int, Steps]
    first: int

    @cached_property
    def scale(self) -> tuple[Steps, Steps]:
        """Root mean square of each entry of command and response, so that entries weigh alike."""
        return tuple(
            np.sqrt(np.mean(np.concatenate(list(side.values())) ** 2, axis=0)).clip(1e-9)
            for side in (self.command, self.response)
        )

    @cached_property
    def inflation(self) -> float:
        """How many samples tell as much as one independent one (Bartlett 1946): both signals are smooth."""
        products = np.zeros(24)
        for episode in self.command:
            x, y = (
                side[episode] / scale for side, scale in zip((self.command, self.response), self.scale, strict=True)
            )
            for k in range(min(len(products), len(x))):
                cut = len(x) - k
                products[k] += np.sum(x[:cut] * x[k:]) + np.sum(y[:cut] * y[k:])
        correlation = products / max(products[0], 1e-12)
        return float(max(1.0, 1 + 2 * np.sum(correlation[1:] ** 2)))

    def sums(self, episode: int, lag: int = 0, response: Steps | None = None) -> np.ndarray:
        """(xy, xx, yy, n) of command t against response t + lag; another `response` tries another convention."""
        x, y = self.command[episode], self.response[episode] if response is None else response
        stop = len(x) - abs(lag)
        if stop <= 0:
            return np.zeros(4)
        x, y = (x[:stop], y[lag:]) if lag >= 0 else (x[-lag:], y[:stop])
        weight = self.scale[1] if response is None or response.shape[1] == len(self.scale[1]) else 1.0
        x, y = x / self.scale[0], y / weight
        return np.array([np.sum(x * y), np.sum(x * x), np.sum(y * y), x.size])


def correlation(sums: np.ndarray) -> np.ndarray:
    """(..., 4) sums to (...) correlation about zero."""
    return sums[..., 0] / np.sqrt(sums[..., 1] * sums[..., 2]).clip(1e-12)


def fisher(r: np.ndarray | float) -> np.ndarray:
    """A correlation on the scale where its error is 1/sqrt(n - 3) whatever it is (Fisher 1921)."""
    return np.arctanh(np.clip(r, -0.999, 0.999))


def pairs(recording: Recording) -> tuple[Pair, ...]:
    """What of the action can be compared with what of the state; none if nothing can."""
    state, action = recording.vectors(STATE), recording.vectors(ACTION)
    if not (np.isfinite(state).all() and np.isfinite(action).all()) or not state.shape[1] or not action.shape[1]:
        return ()
    if recording.spec is None:
        return _by_name(recording, state, action)
    spec = recording.spec
    if state.shape[1] != spec.state_size or action.shape[1] != spec.action_size:
        return ()
    found = []
    for field in spec.action.fields:
        if (twin := measured_by(spec, field)) is None:
            continue
        here, there = action[:, spec.action_slices[field.name]], state[:, spec.state_slices[twin.name]]
        kind = "rotation" if field.rotation else "position"
        found.append(_pair(recording, spec, field, twin, kind, here, there))
    return tuple(pair for pair in found if pair.command)


def measured_by(spec: RobotSpec, field: Field) -> Field | None:
    """The field of the state that a field of the action moves; the gripper has a check of its own."""
    if field.name == "gripper":
        return None
    for twin in spec.state:
        if twin.name == "gripper" or (twin.rotation is None) != (field.rotation is None):
            continue
        unit = "rad" if field.unit == "rad/s" else "m" if field.unit == "m/s" else field.unit
        if field.rotation or (twin.size == field.size and twin.unit == unit):
            return twin
    return None


def turns(values: Steps, representation: str) -> Steps:
    """(T, D) rotations to the (T - 1, 3) turns between them: rotation vectors in the base frame, rad."""
    matrices = rotations.TO_MATRIX[representation](values)
    return rotations.matrix_to_axis_angle(matrices[1:] @ np.swapaxes(matrices[:-1], -1, -2))


def _pair(
    recording: Recording, spec: RobotSpec, field: Field, twin: Field, kind: str, action: Steps, state: Steps
) -> Pair:
    relative = spec.action.is_relative
    command, response = {}, {}
    for number, rows in recording.episodes.items():
        a, s = action[rows], state[rows]
        if len(a) < 4:
            continue
        if field.rotation and twin.rotation:
            moved = turns(s, twin.rotation)
            wanted = rotations.convert(a, field.rotation, "axis_angle")[:-1] if relative else turns(a, field.rotation)
        else:
            moved, wanted = np.diff(s, axis=0), a[:-1] if relative else np.diff(a, axis=0)
            if spec.action.mode == "joint_velocity":
                wanted = wanted / spec.rate_hz
        # Of absolute commands the change from t - 1 to t is what the step from t to t + 1 should bring.
        command[number], response[number] = (wanted, moved) if relative else (wanted[:-1], moved[1:])
    return Pair(f"{field.name} and {twin.name}", kind, command, response, 0 if relative else 1)


def _by_name(recording: Recording, state: Steps, action: Steps) -> tuple[Pair, ...]:
    """Without a spec: entries of the same name in action and state are a commanded and a measured position."""
    names, own = recording.names(STATE), recording.names(ACTION)
    shared = [name for name in own if name in names and "gripper" not in name]
    if not shared:
        return ()
    here, there = action[:, [own.index(n) for n in shared]], state[:, [names.index(n) for n in shared]]
    command, response = {}, {}
    for number, rows in recording.episodes.items():
        if rows.stop - rows.start >= 4:
            command[number] = np.diff(here[rows], axis=0)[:-1]
            response[number] = np.diff(there[rows], axis=0)[1:]
    return (Pair("action and state", "position", command, response, 1),) if command else ()


def state_layout(recording: Recording) -> Mapping[str, slice]:
    """Fields of the state where a fitting spec names them, else the whole."""
    size = recording.vectors(STATE).shape[1]
    spec = recording.spec
    return field_slices(spec.state) if spec and spec.state_size == size else {"state": slice(0, size)}
