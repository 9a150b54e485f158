"""A `vla serve` process, or another server, for as long as a test needs it."""

import os
import re
import signal
import subprocess
import sys

PATIENCE = 300.0


class Server:
    """url: what its first line says, `port` with it."""

    def __init__(self, *command: str) -> None:
        environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
        self._process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environment)
        line = self._process.stdout.readline()
        found = re.search(r"ws://127\.0\.0\.1:(\d+)", line)
        assert found, f"the server ended before it was ready: {line}"
        self.url, self.port = found.group(), found.group(1)

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)
        self._process.stdout.close()
