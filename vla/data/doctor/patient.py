"""A dataset with everything checks look at, each part worked out once and only if asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from vla.actions.rotations import continuous
from vla.data.doctor import motion, pictures
from vla.data.doctor.finding import Need
from vla.data.doctor.recording import Recording
from vla.data.lerobot_v3 import ACTION, STATE
from vla.spec import field_slices

MAD_TO_SIGMA = 1.4826
"""Of a normal distribution, from the median absolute deviation."""


@dataclass(frozen=True)
class Patient:
    """known: cameras that were looked at already."""

    recording: Recording
    advance: Callable[[int], None] = field(default=lambda _: None)
    known: Mapping[str, pictures.Track] = field(default_factory=dict)

    @cached_property
    def tracks(self) -> dict[str, pictures.Track]:
        return {
            key: self.known.get(key) or pictures.look(self.recording, key, self.advance)
            for key in self.recording.cameras
        }

    @cached_property
    def pairs(self) -> tuple[motion.Pair, ...]:
        return motion.pairs(self.recording)

    @cached_property
    def paths(self) -> Mapping[str, Float[np.ndarray, "N D"]]:
        """State and action, without the leaps in how rotations are written (`vla.actions.rotations.continuous`)."""
        recording, spec = self.recording, self.recording.spec
        fields = {STATE: spec.state, ACTION: spec.action.fields} if spec else {}
        paths = {key: recording.vectors(key) for key in (STATE, ACTION)}
        for key, mine in fields.items():
            if paths[key].shape[1] != sum(one.size for one in mine) or not np.isfinite(paths[key]).all():
                continue
            paths[key] = paths[key].copy()
            for turning in (one for one in mine if one.rotation):
                place = field_slices(mine)[turning.name]
                for rows in recording.episodes.values():
                    paths[key][rows, place] = continuous(paths[key][rows, place], str(turning.rotation))
        return paths

    @cached_property
    def pushed(self) -> NDArray[np.bool_]:
        """(N,) Whether the recording itself says that the step into a row was not the robot's doing (`disturbed`)."""
        said = self.recording.columns.get("disturbed")
        return np.zeros(len(self.recording), bool) if said is None else np.roll(said.ravel().astype(bool), 1)

    @cached_property
    def steps(self) -> Float[np.ndarray, "N S"]:
        """How far each entry of the state moved since the row before, NaN at the start of episodes."""
        state = self.paths[STATE]
        moved = np.full(state.shape, np.nan)
        with np.errstate(invalid="ignore"):  # infinity less infinity
            moved[1:] = np.diff(state, axis=0)
        for rows in self.recording.episodes.values():
            moved[rows.start] = np.nan
        return moved

    @cached_property
    def speed(self) -> Float[np.ndarray, " N"]:
        """Length of a step, each entry measured in its own root mean square; NaN at the start of episodes."""
        with np.errstate(invalid="ignore"):
            scale = np.sqrt(np.nanmean(self.steps**2, axis=0)) if self.steps.size else np.ones(0)
        used = np.isfinite(scale) & (scale > 1e-9)
        if not used.any():
            return np.zeros(len(self.recording))
        return np.sqrt(np.mean((self.steps[:, used] / scale[used]) ** 2, axis=1))

    @cached_property
    def rest(self) -> float:
        """A speed below this may be standing still: a tenth of the median speed."""
        moving = self.speed[np.isfinite(self.speed) & (self.speed > 0)]
        return 0.1 * float(np.median(moving)) if len(moving) else np.inf

    def episodes(self) -> Iterator[tuple[int, slice]]:
        yield from self.recording.episodes.items()

    def has(self, need: Need) -> bool:
        recording = self.recording
        return {
            "spec": lambda: recording.spec is not None,
            "stats": lambda: bool(recording.stats),
            "pictures": lambda: bool(recording.cameras),
            "motion": lambda: bool(self.pairs),
            "limits": lambda: recording.spec is not None and recording.spec.limits is not None,
        }[need]()


def robust(values: np.ndarray) -> tuple[float, float]:
    """Median and a standard deviation that a few outliers do not move."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.nan, np.nan
    middle = float(np.median(finite))
    return middle, MAD_TO_SIGMA * float(np.median(np.abs(finite - middle)))


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Stretches start, ..., stop - 1 where it is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
