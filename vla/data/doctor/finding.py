"""What a check is, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from vla.data.doctor.patient import Patient

Need = Literal["spec", "stats", "pictures", "motion", "limits"]
NEEDS: dict[Need, str] = {
    "spec": "meta/robot_spec.yaml",
    "stats": "meta/stats.json",
    "pictures": "cameras",
    "motion": "an action and a state that measure the same thing",
    "limits": "limits in its robot_spec.yaml",
}


@dataclass(frozen=True)
class Curve:
    """A signal over the frames around a finding, for its picture."""

    name: str
    values: tuple[float, ...]

    @classmethod
    def of(cls, name: str, values: Any) -> Curve:
        return cls(name, tuple(float(value) for value in np.asarray(values).ravel()))


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. message: what, how it shows in numbers, and what to do.

    episodes: those concerned; empty means the whole dataset. frame: where to look, within the first of them.
    curves: signals that show it, the first value at frame `since` of the episode.
    """

    kind: str
    message: str
    episodes: tuple[int, ...] = ()
    frame: int | None = None
    camera: str | None = None
    curves: tuple[Curve, ...] = ()
    since: int = 0

    @property
    def where(self) -> str:
        if not self.episodes:
            place = "whole dataset"
        elif len(self.episodes) == 1:
            place = f"episode {self.episodes[0]}"
        else:
            listed = ", ".join(map(str, self.episodes[:6]))
            more = f" and {len(self.episodes) - 6} more" if len(self.episodes) > 6 else ""
            place = f"episodes {listed}{more}"
        frame = "" if self.frame is None else f", frame {self.frame}"
        if self.frame is not None and len(self.episodes) != 1:
            frame = f" (see frame {self.frame} of episode {self.episodes[0] if self.episodes else 0})"
        return place + frame + (f", camera {self.camera}" if self.camera else "")

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "where": self.where,
            "message": self.message,
            "episodes": list(self.episodes),
            "frame": self.frame,
            "camera": self.camera,
        }


@dataclass(frozen=True)
class Check:
    """A rule. about: what it finds; needs: without which it is not made; find: from a dataset to what is wrong."""

    name: str
    about: str
    find: Callable[[Patient], Iterable[Finding]]
    needs: tuple[Need, ...] = ()
