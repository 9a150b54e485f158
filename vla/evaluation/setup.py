"""What a process that plays episodes needs to know. Light: the parent of such processes loads no model."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vla.evaluation.episode import Play
from vla.runtime.loop import Timing


@dataclass(frozen=True)
class Setup:
    """Everything a worker process needs to know; plain values, so that it travels as JSON.

    looks: perturbations of the pictures. media: folder for pictures, None records nothing. videos: so many first
    episodes are filmed; sheets: so many first episodes, and every failure, leave a contact sheet. device: of the
    policy, as `load_policy` takes it.
    """

    policy: str
    env: str
    task: str = "all"
    split: str = "all"
    play: Play = field(default_factory=Play)
    looks: tuple[str, ...] = ()
    media: str | None = None
    videos: int = 0
    sheets: int = 0
    device: str = "cpu"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Setup":
        play = dict(data["play"])
        play["timing"] = Timing(**play["timing"])
        return cls(**{**data, "play": Play(**play), "looks": tuple(data["looks"])})


def media_path(media: str | Path, index: int, kind: str) -> Path:
    """Where episode `index` leaves its "mp4" or its "jpg"."""
    return Path(media) / f"episode-{index:05d}.{kind}"
