"""A `vla serve` process, or another server, for as long as a test needs it."""

import os
import signal
import subprocess
import sys

PATIENCE = 300.0


class Server:
    """address: what it printed first, a url or a port."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        )
        self.address = self._process.stdout.readline().strip()
        assert self.address, "the server ended before it was ready"

    @property
    def url(self) -> str:
        word = self.address.split()[-1] if self.address.isdigit() else self.address.split()[2].rstrip(",")
        return f"ws://127.0.0.1:{word}" if word.isdigit() else word

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2]

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)
        self._process.stdout.close()
