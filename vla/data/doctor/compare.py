"""`--policy`: what a checkpoint would have done beside what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from vla.data.doctor.finding import Curve, Finding
from vla.data.doctor.pictures import frames_at
from vla.data.doctor.recording import Recording
from vla.data.doctor.replay import chosen
from vla.data.lerobot_v3 import ACTION, STATE

Predict = Callable[[Mapping[str, NDArray[np.uint8]], Float[np.ndarray, " S"], str], Float[np.ndarray, "H A"]]
"""Images by camera, state and instruction to a chunk of actions, all in the spec's units."""
PER_EPISODE = 5
"""Moments asked about, evenly over an episode."""


@dataclass(frozen=True)
class Agreement:
    """error: field -> root mean square of what the policy does otherwise, as a share of the field's own spread (its
    entries taken together: one that hardly moves counts little).

    1 is no better than always doing the mean. last: the same for the last action of the chunk. worst: episodes, worst
    first, with their error over all fields.
    """

    error: Mapping[str, float]
    last: Mapping[str, float]
    worst: tuple[tuple[int, float], ...]
    moments: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "error": dict(self.error),
            "last": dict(self.last),
            "worst": list(self.worst[:10]),
            "moments": self.moments,
        }


def compare(
    recording: Recording, predict: Predict, episodes: int, advance: Callable[[int], None] = lambda _: None
) -> tuple[Agreement, list[Finding]]:
    """Ask the policy at PER_EPISODE moments of `episodes` evenly chosen ones. The recording must carry a spec.

    Left out is a moment that lacks a picture, or where state or actions are not finite.
    """
    assert recording.spec is not None
    actions, states = recording.vectors(ACTION), recording.vectors(STATE).astype(np.float32)
    texts = {entry.number: entry.tasks[0] if entry.tasks else "" for entry in recording.entries}
    finite = np.isfinite(actions).all(1)
    if not (recording.fits_spec and finite.any()):
        return Agreement({}, {}, (), 0), []
    spread, slices = np.empty(actions.shape[1]), recording.spec.action_slices
    for place in slices.values():
        spread[place] = max(1e-6, float(np.sqrt(np.mean(actions[finite, place].var(0)))))
    asked = {n: _moments(recording.episodes[n]) for n in chosen(recording, episodes)}
    rows = [row for moments in asked.values() for row in moments]
    pictures = {
        camera.name: frames_at(recording, camera.key, rows) if camera.key in recording.cameras else {}
        for camera in recording.spec.cameras
    }
    first, last, whole = [], [], {}
    shown: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for number, moments in asked.items():
        errors = []
        for row in moments:
            images = {camera: found[row] for camera, found in pictures.items() if row in found}
            if len(images) < len(pictures) or not np.isfinite(states[row]).all():
                continue
            chunk = predict(images, states[row], texts.get(number, ""))
            recorded = actions[row : min(row + len(chunk), recording.episodes[number].stop)]
            if not np.isfinite(recorded).all():
                continue
            off = chunk[: len(recorded)] - recorded
            first.append(off[0])
            last.append(off[-1])
            errors.append(np.mean((off / spread) ** 2))
            shown[number] = chunk[: len(recorded)], recorded
        if errors:
            whole[number] = float(np.sqrt(np.mean(errors)))
        advance(1)
    if not first:
        return Agreement({}, {}, (), 0), []
    error, end = (
        {name: float(np.sqrt(np.mean((np.stack(side) / spread)[:, place] ** 2))) for name, place in slices.items()}
        for side in (first, last)
    )
    worst = tuple(sorted(whole.items(), key=lambda item: -item[1]))
    agreement = Agreement(error, end, worst, len(first))
    findings = [
        Finding(
            "policy",
            f"the policy's {name} is off by {value:.2f} of its spread, no better than always doing the mean: "
            "it was trained "
            "under another convention, for other scenes, or not enough",
            (),
            None,
            curves=_curves(shown[worst[0][0]], slices[name], name),
        )
        for name, value in error.items()
        if value > 1
    ]
    return agreement, findings


def _moments(rows: slice) -> list[int]:
    count = min(PER_EPISODE, rows.stop - rows.start)
    return [int(row) for row in np.linspace(rows.start, rows.stop - 1, count + 1)[:-1].round()]


def _curves(pair: tuple[np.ndarray, np.ndarray], place: slice, name: str) -> tuple[Curve, ...]:
    predicted, recorded = pair
    return Curve.of(f"{name}, policy", predicted[:, place][:, 0]), Curve.of(
        f"{name}, recorded", recorded[:, place][:, 0]
    )
