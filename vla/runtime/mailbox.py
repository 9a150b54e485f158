"""One slot between S2 and S1: the newest thought wins."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loads torch, which a process that only watches has no use for
    from vla.s2.thought import Thought


class Mailbox:
    """Holds the thought with the newest capture stamp, whatever the order of arrival.

    Neither side ever waits for the other: the lock guards one comparison and one assignment.
    """

    def __init__(self) -> None:
        self._slot: Thought | None = None
        self._lock = Lock()

    def put(self, thought: Thought) -> bool:
        """Leave a thought; False if a newer one was already there. A newer instruction beats any stamp."""
        key = (thought.instruction_id, thought.stamp)
        with self._lock:
            if self._slot is not None and key < (self._slot.instruction_id, self._slot.stamp):
                return False
            self._slot = thought
            return True

    def newest(self, instruction_id: int) -> Thought | None:
        """The newest thought that answers this instruction, or None: one for an older instruction is never used."""
        thought = self._slot
        return thought if thought is not None and thought.instruction_id == instruction_id else None
