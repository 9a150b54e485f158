"""What a page may say to the cockpit, read strictly: anything else is a MessageError, and nothing happens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from vla.serve.codec import MessageError
from vla.teleop.control import WISHES

MAX_BYTES = 4096


@dataclass(frozen=True)
class Hand:
    """The operator's heartbeat: where the keys are. at: the page's own time in ms, which is sent back."""

    move: Float[np.ndarray, " 6"]
    gripper: float
    clutch: bool
    at: float


@dataclass(frozen=True)
class Wish:
    what: str
    value: str | bool | None


@dataclass(frozen=True)
class Gone:
    """The page is hidden, or being closed."""


@dataclass(frozen=True)
class Lead:
    """A watcher wants to be the operator."""


@dataclass(frozen=True)
class Seen:
    """The page has drawn the picture of this number."""

    number: int


def read_message(text: str | bytes) -> Hand | Wish | Gone | Lead | Seen:
    """Raises MessageError, which says what is wrong."""
    if isinstance(text, bytes):
        raise MessageError("text is wanted, not bytes")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise MessageError("not JSON") from None
    if not isinstance(message, dict):
        raise MessageError("not an object")
    kind = message.get("t")
    if kind == "hand":
        move = message.get("move")
        if not isinstance(move, list) or len(move) != 6:
            raise MessageError("move: six numbers are wanted")
        values = np.array([_number("move", value, -1, 1) for value in move])
        gripper = _number("gripper", message.get("gripper"), 0, 1)
        return Hand(values, gripper, _flag(message.get("clutch")), _number("at", message.get("at"), 0, 1e15))
    if kind == "wish":
        what, value = message.get("what"), message.get("value")
        if not isinstance(what, str) or what not in WISHES:
            raise MessageError("what: unknown wish")
        if not (value is None or isinstance(value, (str, bool))):
            raise MessageError("value: a text or a flag is wanted")
        return Wish(what, value)
    if kind == "seen":
        return Seen(int(_number("number", message.get("number"), 0, 1e15)))
    if kind == "gone":
        return Gone()
    if kind == "lead":
        return Lead()
    raise MessageError("t: unknown")


def _number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise MessageError(f"{name}: a number from {low:g} to {high:g} is wanted")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise MessageError("clutch: true or false is wanted")
    return value
