"""Where a result comes from: the command and the state of the code."""

import shlex
import subprocess
import sys
from pathlib import Path

import vla


def command_line() -> str:
    """The command that is running, as one could type it again."""
    program = Path(sys.argv[0]).name
    return shlex.join(["vla" if program in ("vla", "cli.py", "__main__.py") else program, *sys.argv[1:]])


def git_hash() -> str | None:
    """Commit of the checkout this code runs from, with "-dirty" if files changed since; None outside a checkout."""
    root = Path(vla.__file__).resolve().parent.parent
    if not (root / ".git").exists():  # an installed copy may lie inside somebody else's repository
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
