"""A simulated robot in a process of its own."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SimProcess:
    """`lines`: what it has printed so far, both streams."""

    def __init__(self, domain: int, *options: str) -> None:
        command = [sys.executable, "-m", "vla.cli", "sim", "--dds", "--loopback", "--domain", str(domain), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def stop(self, how: int = signal.SIGINT) -> int:
        self.process.send_signal(how)
        code = self.process.wait(300)
        self._reader.join(10)
        return code


@contextmanager
def sim_process(domain: int, *options: str) -> Iterator[SimProcess]:
    sim = SimProcess(domain, *options)
    try:
        yield sim
    finally:
        if sim.process.poll() is None:
            sim.process.kill()
            sim.process.wait(60)
