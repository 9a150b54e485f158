"""The terminal as a device: keys come one by one, also over SSH, and the terminal itself is the heartbeat."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
from contextlib import suppress
from typing import Any

from vla.errors import UserError
from vla.teleop.devices import Reading, Wish
from vla.teleop.keys import ANSWER, HELP, KeyReader, Keys
from vla.teleop.moment import Moment

POLL_S = 0.02
ASK_S = 0.05
LEAVE_S = 0.5
"""So long its answers are waited for when it is closed."""
_WHERE_IS_THE_CURSOR = b"\x1b[6n"


class Terminal:
    """Standard input, key by key and without echo, until it is closed; Ctrl-C stays what it is.

    It is asked for its cursor's place twenty times a second. Once it has answered, `heard` is when it last said
    anything: a connection that stalls is noticed though nobody presses a key.
    """

    def __init__(self) -> None:
        if not sys.stdin.isatty():
            raise UserError("teleop: the keys of a terminal are wanted, and standard input is none")
        self._in = sys.stdin.fileno()
        self._out = sys.stdout.fileno() if sys.stdout.isatty() else None
        self._before = termios.tcgetattr(self._in)
        termios.tcsetattr(self._in, termios.TCSANOW, _key_by_key(termios.tcgetattr(self._in)))
        self._reader = KeyReader()
        self._answers, self._asked, self._open_questions = False, 0.0, 0
        self.heard = time.monotonic()

    def pressed(self) -> list[str]:
        """Those pressed since the last call; waits up to POLL_S for the first. Raises EOFError if it has hung up."""
        self._ask(time.monotonic())
        return self._read()

    def close(self) -> None:
        with suppress(EOFError, termios.error):  # it has hung up
            until = time.monotonic() + LEAVE_S
            while self._open_questions > 0 and time.monotonic() < until:
                self._read()  # an answer that comes later would be typed into the shell
            termios.tcsetattr(self._in, termios.TCSAFLUSH, self._before)

    def _read(self) -> list[str]:
        try:
            ready = bool(select.select([self._in], [], [], POLL_S)[0])
            data = os.read(self._in, 4096) if ready else b""
        except OSError:
            raise EOFError from None
        if ready and not data:
            raise EOFError
        now = time.monotonic()
        pressed = self._reader.feed(data, now)
        self._open_questions = max(0, self._open_questions - pressed.count(ANSWER))
        self._answers = self._answers or ANSWER in pressed
        if pressed or not self._answers:
            self.heard = now
        return [key for key in pressed if key != ANSWER]

    def _ask(self, now: float) -> None:
        if self._out is not None and now - self._asked >= ASK_S:
            self._asked = now
            self._open_questions += 1
            try:
                os.write(self._out, _WHERE_IS_THE_CURSOR)
            except OSError:
                raise EOFError from None


class KeyboardDevice:
    """The keys as a hand. Raises UserError without a terminal."""

    name = "keyboard"
    about = HELP
    trouble = ""

    def __init__(self) -> None:
        self._terminal, self._keys = Terminal(), Keys()
        self._newest: Reading | None = None

    @property
    def prompt(self) -> str | None:
        return self._keys.typing

    def poll(self, moment: Moment) -> list[Wish]:
        self._keys.follow(moment)
        pressed = self._terminal.pressed()
        now = time.monotonic()
        wishes = [wish for key in pressed for wish in self._keys.press(key, now)]
        self._newest = self._keys.reading(now, self._terminal.heard)
        return wishes

    def read(self) -> Reading | None:
        return self._newest

    def close(self) -> None:
        self._newest = None
        self._terminal.close()


def _key_by_key(settings: list[Any]) -> list[Any]:
    settings[0] &= ~termios.IXON  # Ctrl-S would stop the line that shows how things stand
    settings[3] &= ~(termios.ICANON | termios.ECHO)
    settings[6][termios.VMIN], settings[6][termios.VTIME] = 1, 0
    settings[6][termios.VSUSP] = os.fpathconf(sys.stdin.fileno(), "PC_VDISABLE").to_bytes(1, "big")
    return settings
