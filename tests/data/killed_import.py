"""An import in a process of its own, killed as soon as its first part is there."""

import os
import signal
import subprocess
import sys
import time


def kill_import(importing, arguments, tmp_path):
    """importing: an import statement that names the function `run`; arguments: paths, the output the last of them."""
    (tmp_path / "run.py").write_text(f"""
from pathlib import Path
import vla.data.importing as shared
{importing}
if __name__ == "__main__":
    shared.BLOCK = 1
    run(*map(Path, {list(map(str, arguments))!r}))
""")
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    process = subprocess.Popen([sys.executable, tmp_path / "run.py"], env=environment)
    partial = arguments[-1].with_name(f"{arguments[-1].name}.partial")
    deadline = time.monotonic() + 500
    while not list(partial.glob("part-*-0000001")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
