"""What a simulated robot says over ROS of its episode."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What a simulated robot says of its episode: the JSON on the spec's outcome stream.

    began: time of its first observation, ns. lockstep: its time waits for commands. refused: an instruction that the
    scene cannot have, and why.
    """

    episode: int = -1
    seed: int | None = None
    instruction: str = ""
    family: str = ""
    success: bool = False
    finished: bool = False
    steps: int = 0
    max_steps: int = 0
    began: int = 0
    lockstep: bool = False
    refused: tuple[str, str] | None = None

    def to_json(self) -> str:
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """Raises ValueError for what is no outcome."""
        try:
            data = json.loads(text)
            refused = data.pop("refused", None)
            return cls(**data, refused=tuple(refused) if refused else None)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"no outcome of an episode: {error}") from None
