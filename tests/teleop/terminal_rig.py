"""A command in a terminal of its own: a real pseudo-terminal, which answers as one and shows what it was told."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 300
CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\r")


class TerminalRig:
    def __init__(self, *command: str, answers: bool = True) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 300, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vla.cli", *command],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.answers, self._said, self._holding = answers, "", b""
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def press(self, keys: bytes, until: str = "") -> None:
        """until: what is then to be shown; the keys are pressed again while it is not."""
        begin, deadline = self.mark, time.monotonic() + PATIENCE_S
        os.write(self._ours, keys)
        while until and not self.shows(until, begin, 3.0):
            assert time.monotonic() < deadline, f"{until!r} is not shown: {self.text()[-2000:]}"
            os.write(self._ours, keys)

    def hold(self, key: bytes, until: str) -> None:
        """Repeat `key` as a terminal does, until `until` is shown."""
        self._holding = key
        try:
            self.await_text(until)
        finally:
            self._holding = b""

    @property
    def mark(self) -> int:
        return len(self._said)

    def text(self, since: int = 0) -> str:
        return CONTROL.sub("", self._said[since:])

    def await_text(self, pattern: str, since: int | None = None) -> None:
        """Wait until `pattern` is shown, after now or after a `mark`."""
        assert self.shows(pattern, self.mark if since is None else since), f"no {pattern!r}: {self.text()[-2000:]}"

    def shows(self, pattern: str, since: int, patience: float = PATIENCE_S) -> bool:
        deadline = time.monotonic() + patience
        while not (found := re.search(pattern, self.text(since))) and time.monotonic() < deadline:
            assert self.process.poll() is None, f"it ended: {self.text()[-2000:]}"
            time.sleep(0.02)
        return found is not None

    def settings(self):
        return termios.tcgetattr(self._theirs)

    def hang_up(self) -> None:
        os.close(self._theirs)
        self._theirs = -1
        self.answers = False
        os.close(self._ours)
        self._ours = -1

    def end(self, how: bytes = b"\x03") -> int:
        if how and self._ours >= 0:
            self.press(how)
        return self.process.wait(3 * PATIENCE_S)  # encoding and writing a dataset is more work than driving

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(60)
        for handle in (self._ours, self._theirs):
            if handle >= 0:
                os.close(handle)
        self._ours = self._theirs = -1

    def _work(self) -> None:
        import select

        while self._ours >= 0:
            try:
                if select.select([self._ours], [], [], 0.03)[0]:
                    data = os.read(self._ours, 65536)
                    self._said += data.decode(errors="replace")
                    if self.answers and b"\x1b[6n" in data:
                        os.write(self._ours, b"\x1b[40;1R")
                if self._holding:
                    os.write(self._ours, self._holding)
            except (OSError, ValueError):
                return


@contextmanager
def terminal(*command: str, answers: bool = True) -> Iterator[TerminalRig]:
    rig = TerminalRig(*command, answers=answers)
    try:
        yield rig
    finally:
        rig.close()
