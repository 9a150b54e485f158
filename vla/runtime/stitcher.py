"""Joins S1's chunks into one stream of actions, one per control step."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla.runtime.clock import EPSILON

Action = NDArray[np.float32]

_SAME = 1e-6
"""Fractions of a control period that make no difference."""


@dataclass(frozen=True)
class Chunk:
    """actions: (H, A) robot units; row i is meant for control step `capture + i`.

    capture: control step of the observation the chunk was computed from; on a wall clock a fraction, since cameras keep
    their own time.
    effective: first step at which it may drive the robot, `capture + delay`.
    """

    capture: float
    effective: float
    actions: NDArray[np.float32]

    def at(self, step: float) -> Action | None:
        """The action of the control period that begins at `step`, which may lie across two rows; None beyond them.

        Robots go evenly from row to row: half-way between two, a delta is half of each, and a pose half-way.
        """
        index = step - self.capture
        row = math.floor(index + EPSILON)
        share = max(index - row, 0.0)
        if share < _SAME:
            return self.actions[row] if 0 <= row < len(self.actions) else None
        if not 0 <= row < len(self.actions) - 1:
            return None
        return (1 - share) * self.actions[row] + share * self.actions[row + 1]


class Stitcher:
    """Chunks are indexed by the capture step of their observation, never by when they arrive.

    Between the capture and the end of S1's computation the robot goes on with the actions already committed;
    the first `delay` rows of the new chunk belong to steps that have then passed and are skipped, not replayed late.

    hold: gives the action (A,) that keeps the robot where it is, from the last one sent (`RobotSpec.hold_action`).
    rest: stands for the last action sent before there is any. begun: some chunk's action has been sent since the
    beginning, or since `drop`.
    """

    def __init__(self, hold: Callable[[Action], Action], rest: Action) -> None:
        self._hold = hold
        self._active: Chunk | None = None
        self._pending: Chunk | None = None
        self._last = rest
        self.starvations = 0
        self.begun = False

    def commit(self, chunk: Chunk) -> None:
        """Hand over a chunk; it takes over at `chunk.effective`."""
        self._pending = chunk

    def drop(self) -> None:
        """Forget every chunk: what comes next is a hold, until a new one is effective."""
        self._active = self._pending = None
        self.begun = False

    def prefix(self, step: float, length: int) -> NDArray[np.float32]:
        """The actions (length, A) that will be sent from `step` on, before a chunk captured now can take over."""
        self._activate(step)
        rows: list[Action] = []
        last = self._last
        for ahead in range(length):
            pending = self._pending if self._pending and step + ahead >= self._pending.effective else None
            chunk = pending or self._active
            action = chunk.at(step + ahead) if chunk else None
            last = self._hold(last) if action is None else action
            rows.append(last)
        return np.stack(rows).astype(np.float32) if rows else np.zeros((0, len(last)), np.float32)

    def next(self, step: float) -> Action:
        """The action for this control step. A chunk that has run out counts as a starvation and holds."""
        self._activate(step)
        action = self._active.at(step) if self._active else None
        if action is None:
            self.starvations += self._active is not None
            return self.hold()
        self._last, self.begun = action, True
        return action

    def hold(self) -> Action:
        """The action that keeps the robot where it is."""
        self._last = self._hold(self._last)
        return self._last

    def _activate(self, step: float) -> None:
        if self._pending is not None and step >= self._pending.effective:
            self._active, self._pending = self._pending, None
