"""Joins S1's chunks into one stream of actions, one per control step."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Action = NDArray[np.float32]


@dataclass(frozen=True)
class Chunk:
    """actions: (H, A) robot units; row i is meant for control step `capture + i`.

    capture: control step of the observation the chunk was computed from.
    effective: first step at which it may drive the robot, `capture + delay`.
    """

    capture: int
    effective: int
    actions: NDArray[np.float32]

    def at(self, step: int) -> Action | None:
        index = step - self.capture
        return self.actions[index] if 0 <= index < len(self.actions) else None


class Stitcher:
    """Chunks are indexed by the capture step of their observation, never by when they arrive.

    Between the capture and the end of S1's computation the robot goes on with the actions already committed;
    the first `delay` rows of the new chunk belong to steps that have then passed and are skipped, not replayed late.

    hold: gives the action (A,) that keeps the robot where it is, from the last one sent (`RobotSpec.hold_action`).
    rest: stands for the last action sent before there is any.
    """

    def __init__(self, hold: Callable[[Action], Action], rest: Action) -> None:
        self._hold = hold
        self._active: Chunk | None = None
        self._pending: Chunk | None = None
        self._last = rest
        self.starvations = 0

    def commit(self, chunk: Chunk) -> None:
        """Hand over a chunk; it takes over at `chunk.effective`."""
        self._pending = chunk

    def drop(self) -> None:
        """Forget every chunk: what comes next is a hold, until a new one is effective."""
        self._active = self._pending = None

    def prefix(self, step: int, length: int) -> NDArray[np.float32]:
        """The actions (length, A) that will be sent from `step` on, before a chunk captured now can take over."""
        self._activate(step)
        rows: list[Action] = []
        last = self._last
        for ahead in range(step, step + length):
            action = self._active.at(ahead) if self._active else None
            last = self._hold(last) if action is None else action
            rows.append(last)
        return np.stack(rows).astype(np.float32) if rows else np.zeros((0, len(last)), np.float32)

    def next(self, step: int) -> Action:
        """The action for this control step. A chunk that has run out counts as a starvation and holds."""
        self._activate(step)
        action = self._active.at(step) if self._active else None
        if action is None:
            self.starvations += self._active is not None
            return self.hold()
        self._last = action
        return action

    def hold(self) -> Action:
        """The action that keeps the robot where it is."""
        self._last = self._hold(self._last)
        return self._last

    def _activate(self, step: int) -> None:
        if self._pending is not None and step >= self._pending.effective:
            self._active, self._pending = self._pending, None
