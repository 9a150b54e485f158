"""A first `RobotSpec` for a dataset that carries none, such as one of `lerobot-record`: `vla spec init`.

Names, sizes and rates are in the dataset; what its numbers mean is not. Units are guessed from names and ranges, and
every line that was guessed says from what, those that somebody who knows the robot has to look at with `check`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Float

from vla.data.lerobot_v3 import ACTION, STATE, DatasetV3, read_motion
from vla.errors import UserError
from vla.extras import need
from vla.spec import RobotSpec

TURN = 2 * np.pi + 0.2
"""A joint goes no further in rad: beyond it are degrees, or LeRobot's -100 ... 100."""
KINDS = {"pos": "joint_position", "vel": "velocity", "effort": "effort", "torque": "effort", "gripper": "gripper"}
WRIST = re.compile(r"wrist|hand|gripper|tool|_ee\b")


@dataclass(frozen=True)
class Group:
    """Consecutive entries of a vector that make one field. values: (N, size). names: None if the dataset has none."""

    name: str
    names: tuple[str, ...] | None
    values: Float[np.ndarray, "N size"]

    @property
    def size(self) -> int:
        return self.values.shape[1]

    @property
    def kind(self) -> str:
        return next((kind for kind in dict.fromkeys(KINDS.values()) if kind in self.name), "")


def draft_spec(dataset: str | Path) -> str:
    """The YAML, with comments, of a spec that `RobotSpec.load` takes.

    Raises UserError if `dataset` is no LeRobot v3 dataset or lacks states, actions or any finite number in them.
    """
    need("data", "pyarrow")
    data = DatasetV3(dataset)
    for key in (STATE, ACTION):
        if key not in data.features:
            raise UserError(f"dataset {dataset}: no column {key}, so there is no spec to draft")
    state, action = (part.astype(np.float64) for part in read_motion(dataset))
    if not (np.isfinite(state).all(1) & np.isfinite(action).all(1)).any():
        raise UserError(f"dataset {dataset}: no frame has finite states and actions")
    states, actions = (
        _groups(data.dimension_names(key), values[np.isfinite(values).all(1)])
        for key, values in ((STATE, state), (ACTION, action))
    )
    root, ranges = Path(dataset).resolve(), _ranges([*states, *actions])
    named, source = (data.robot_type, "robot_type") if data.robot_type else (root.name, "check: the folder's name")
    gripper = any(group.name == "gripper" for group in actions)
    lines = [
        f"# Drafted by `vla spec init` from {data.episode_count} episodes, {data.frames} frames.",
        "# Comments say what was guessed from what; look at every `check`, correct it and remove the word.",
        f"name: {json.dumps(named)} # {source}",
        f"rate_hz: {data.fps:g}",
        "cameras:" if data.cameras else "cameras: []",
        *(_camera(data, name, key) for name, key in data.cameras.items()),
        "state:",
        *(line for group in states for line in _field(group, ranges, "  ")),
        "action:",
        f"  mode: joint_position # {_mode(state, action)}",
        *(["  gripper: 1 = open, 0 = closed # check: the larger value is the open gripper"] if gripper else []),
        "  fields:",
        *(line for group in actions for line in _field(group, ranges, "    ")),
    ]
    text = "\n".join(lines) + "\n"
    RobotSpec.from_dict(yaml.safe_load(text), f"drafted for {dataset}")
    return text


def _groups(names: list[str] | None, values: Float[np.ndarray, "N D"]) -> list[Group]:
    if names is None:
        return [Group("joint_position", None, values)]
    found: list[Group] = []
    start = 0
    for name, entries in groupby(names, _field_name):
        size = len(list(entries))
        twice = sum(re.fullmatch(rf"{name}(_\d+)?", group.name) is not None for group in found)
        unique = f"{name}_{twice + 1}" if twice else name
        found.append(Group(unique, tuple(names[start : start + size]), values[:, start : start + size]))
        start += size
    return found


def _field_name(entry: str) -> str:
    """Of the field an entry belongs to: `left_shoulder_pan.pos` is of `left_joint_position`."""
    joint, _, what = entry.lower().rpartition(".") if "." in entry else (entry.lower(), "", "pos")
    kind = KINDS["gripper"] if "gripper" in joint and what == "pos" else KINDS.get(what, "joint_position")
    side = re.match(r"(left|right)[_.]", joint)
    return f"{side[1]}_{kind}" if side else kind


def _camera(data: DatasetV3, name: str, key: str) -> str:
    height, width = data.picture_size(key)
    mount, why = ("wrist", "mount from its name") if WRIST.search(name) else ("fixed", "check: does it stand still?")
    size = f"height: {height}, width: {width}"
    return f"  - {{name: {json.dumps(name)}, {size}, colour: rgb, mount: {mount}}} # {why}"


def _ranges(groups: list[Group]) -> dict[str, tuple[float, float]]:
    """Of every kind over states and actions and both arms: one that hardly moves has the unit of the others."""
    kinds = {group.kind: [one.values for one in groups if one.kind == group.kind] for group in groups}
    return {
        kind: (min(float(part.min()) for part in parts), max(float(part.max()) for part in parts))
        for kind, parts in kinds.items()
    }


def _field(group: Group, ranges: dict[str, tuple[float, float]], indent: str) -> list[str]:
    unit, why = _unit(group, *ranges[group.kind])
    entries = f"{', '.join(group.names)}: " if group.names else ""
    about = f"{entries}{group.values.min():.4g} to {group.values.max():.4g}".replace("\n", " ")
    return [f"{indent}# {about}", f'{indent}- {{name: {group.name}, size: {group.size}, unit: "{unit}"}} # {why}']


def _unit(group: Group, low: float, high: float) -> tuple[str, str]:
    """The unit, and why it was taken for that. low, high: of all fields of the kind."""
    if group.kind == "gripper":
        if low >= -0.1 and high <= 1.1:
            return "1", "a share of the opening, from its range; check"
        if low >= -10 and high <= 110:
            return "%", "percent of the opening, from its range; check"
        return ("rad" if high - low <= TURN else "deg"), "no share of an opening; check the unit"
    if group.kind != "joint_position":
        return "1", "check: no unit is known"
    if max(-low, high) <= TURN:
        unsure = "" if group.names else "; check which entries are joints, and which is a gripper"
        return "rad", f"from its range; check that they are not degrees{unsure}"
    if max(-low, high) <= 100:
        return "deg", 'too large for rad; check: with use_degrees=false LeRobot records -100 to 100, "%"'
    return "deg", "too large for rad"


def _mode(state: Float[np.ndarray, "N S"], action: Float[np.ndarray, "N A"]) -> str:
    """Whether actions look like absolute positions: then they are close to the measured ones."""
    finite = np.isfinite(state).all(1) & np.isfinite(action).all(1)
    if state.shape != action.shape:
        return "check: absolute? state and action differ in size, so there is nothing to tell it by"
    off = float(np.median(np.abs(action - state)[finite]))
    spread = float(state[finite].std(0).max())
    if off <= max(spread, 1e-9):
        return f"absolute: half of the actions are within {off:.3g} of the state, whose spread is {spread:.3g}"
    return f"check: are these deltas? The median action is {off:.3g} from the state, whose spread is {spread:.3g}"
