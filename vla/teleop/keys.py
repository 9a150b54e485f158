"""From the bytes of a terminal to keys, and from keys to a hand.

A terminal says that a key went down, and says so again while it stays down; it never says that a key was let go. So a
key counts as held for a moment after it was last heard of.
"""

from __future__ import annotations

import codecs
import re

import numpy as np
from jaxtyping import Float

from vla.teleop.devices import Grip, Reading, Wish
from vla.teleop.moment import Moment

HOLD_S = 0.15
"""Longer than the time between two repetitions of a key, also on slow terminals: 25 to 90 ms."""
REPEAT_S = 0.7
"""A key heard again so soon may still be the one that was pressed: terminals repeat from a quarter of a second to two
thirds after that on. What must not be done twice is not.
"""
ESCAPE_S = 0.05
"""A sequence that begins with escape comes at once; if nothing follows for so long, it was the key."""
SLOWLY = 0.3
MOVES = {
    **{"w": (0, 1), "s": (0, -1), "a": (1, 1), "d": (1, -1), "e": (2, 1), "q": (2, -1)},
    **{"u": (3, -1), "o": (3, 1), "i": (4, 1), "k": (4, -1), "j": (5, 1), "l": (5, -1)},
}
WISHES = {
    **{"enter": "start", "y": "success", "n": "fail", "x": "discard", "t": "again", "z": "undo", "v": "scene"},
    **{"home": "release", "h": "release"},
}
HELP = """\
Space take hold, let go    W S A D E Q move    J L I K U O turn    Shift slowly    G gripper
Enter start    Y success    N failure    X discard    T again    Z undo    V new scene    / instruction
P policy on, off    Escape stop    H or Home release the stop    Ctrl-C end"""

ANSWER = "answer"
"""What `KeyReader` calls a report of the cursor's place: the terminal is there."""
_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O[@-~])")
_BEGUN = re.compile(r"\x1b(\[[0-?]*[ -/]*|O)?$")
_NAMES = {"[H": "home", "[1~": "home", "[7~": "home", "OH": "home"}
_CHARACTERS = {"\r": "enter", "\n": "enter", " ": "space", "\x7f": "backspace", "\b": "backspace"}


class KeyReader:
    """`feed` returns the keys that went down, or were repeated: "w", "W", "space", "enter", "escape", "home"."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._rest_since = 0.0

    def feed(self, data: bytes, now: float) -> list[str]:
        """data: what came since the last call, which may be nothing; now: seconds."""
        if data:
            self._rest_since = now
        text = self._rest + self._decoder.decode(data)
        if text == "\x1b" and now - self._rest_since >= ESCAPE_S:
            self._rest = ""
            return ["escape"]
        keys, at = [], 0
        while at < len(text) and not _BEGUN.fullmatch(text, at):
            found = _SEQUENCE.match(text, at)
            if found:
                keys.append(ANSWER if found[1].endswith("R") else _NAMES.get(found[1], ""))
            elif text[at] == "\x1b":
                keys.append("escape")
            else:
                keys.append(_CHARACTERS.get(text[at], text[at]))
            at = found.end() if found else at + 1
        self._rest = text[at:]
        return [key for key in keys if key]


class Keys:
    """What the keys say: wishes, and a hand. typing: the new instruction, as far as it is written; None: none is."""

    def __init__(self) -> None:
        self.grip = Grip()
        self.typing: str | None = None
        self._held: dict[tuple[int, int], tuple[float, float]] = {}
        self._heard: dict[str, float] = {}
        self._policy_on = False

    def press(self, key: str, now: float) -> list[Wish]:
        """What an operator asks for with `key`, if anything."""
        if key == "escape":
            self.typing = None
            self.grip.clutch = False
            return [("stop", None)]
        if self.typing is not None:
            return self._type(key)
        repeated = now - self._heard.get(key, -REPEAT_S) < REPEAT_S
        self._heard[key] = now
        if key.lower() in MOVES:
            self._held[MOVES[key.lower()]] = now + HOLD_S, SLOWLY if key.isupper() else 1.0
        elif key == "space":  # letting go is never too soon
            self.grip.clutch = not self.grip.clutch and not repeated
        elif repeated:
            return []
        elif key.lower() == "g":
            self.grip.open = not self.grip.open
        elif key.lower() == "p":
            return [("policy", not self._policy_on)]
        elif key == "/":
            self.grip.clutch, self.typing = False, ""
        elif key.lower() in WISHES:
            return [(WISHES[key.lower()], None)]
        return []

    def follow(self, moment: Moment) -> None:
        self.grip.follow(moment)
        self._policy_on = moment.policy_on

    def move(self, now: float) -> Float[np.ndarray, " 6"]:
        """In [-1, 1], of the keys that are held."""
        move = np.zeros(6)
        for (axis, sign), (until, pace) in self._held.items():
            if now < until:
                move[axis] += sign * pace
        return move

    def reading(self, now: float, stamp: float) -> Reading:
        return Reading(self.move(now), float(self.grip.open), self.grip.clutch, stamp)

    def _type(self, key: str) -> list[Wish]:
        text = self.typing or ""
        if key == "enter":
            self.typing = None
            return [("instruct", text)] if text.strip() else []
        shown = {"space": " ", "backspace": ""}.get(key, key)
        self.typing = text[:-1] if key == "backspace" else text + shown if len(shown) == 1 else text
        return []
