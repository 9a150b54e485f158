"""Keeps what is needed to draw an episode afterwards: cheap while it runs, pictures only for those worth showing."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vla.evaluation.overlay import Caption, Picture, compose, contact_sheet
from vla.evaluation.video import write_video
from vla.jpeg import encode_jpeg
from vla.robots.base import SimulatedRobot
from vla.runtime.telemetry import StepView

FINAL_PAUSE_S = 0.8


@dataclass(frozen=True)
class Moment:
    """One control step, and the physics state it began with (None if the robot cannot tell)."""

    view: StepView
    snapshot: Any


class Recorder:
    """Watches an episode; then `video` and `sheet` draw it, while the robot still is in it.

    Uses the robot's `snapshot` and `picture` for large images where it has them, else enlarges what the policy saw.
    """

    def __init__(self, robot: SimulatedRobot) -> None:
        self._robot = robot
        self._snapshot = getattr(robot, "snapshot", lambda: None)
        self._cameras = robot.spec.camera_names
        self._moments: list[Moment] = []
        self._next: Any = None

    def begin(self) -> None:
        """Forget the last episode; call after the reset."""
        self._moments = []
        self._next = self._snapshot()

    def add(self, view: StepView) -> None:
        # The view shows the world before its action was sent; the loop calls after.
        self._moments.append(Moment(view, self._next))
        self._next = self._snapshot()

    def video(self, path: Path) -> None:
        """The episode in real time, as mp4."""
        write_video(path, self._frames(), self._robot.spec.rate_hz)

    def sheet(self, path: Path, columns: int = 6) -> None:
        """A few moments, evenly spread from first to last, as JPEG."""
        chosen = np.unique(np.linspace(0, len(self._moments) - 1, columns).round().astype(int))
        moments = [(*self._pictures(self._moments[i]), self._moments[i].view.now) for i in chosen]
        words = next((moment.view.words for moment in self._moments if moment.view.words), None)
        picture = contact_sheet(moments, words)
        path.write_bytes(encode_jpeg(picture, 82))

    def _frames(self) -> Iterator[Picture]:
        for moment in self._moments:
            view = moment.view
            note = "waiting for S2" if view.held else ""
            caption = Caption(view.instruction, view.words, view.age_s, view.now, note)
            yield compose(*self._pictures(moment), caption)
        done = self._robot.success
        note = "done" if done else "not done"
        last = compose(
            *self._pictures(replace(self._moments[-1], snapshot=self._next)), replace(caption, note=note, good=done)
        )
        yield from [last] * round(FINAL_PAUSE_S * self._robot.spec.rate_hz)

    def _pictures(self, moment: Moment) -> tuple[Picture, Picture]:
        """The fixed and the wrist camera; a robot with one camera shows it twice, one with more the first two."""
        front, wrist = (self._cameras * 2)[:2]
        if moment.snapshot is None:
            images = moment.view.observation.images
            return images[front], images[wrist]
        picture = self._robot.picture  # type: ignore[attr-defined]
        return picture(front, moment.snapshot), picture(wrist, moment.snapshot)
