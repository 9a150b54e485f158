"""A joint robot that follows its commands with a lag, and writes down every one it gets."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from vla.processes import Maker
from vla.runtime.command_loop import Settings
from vla.runtime.command_process import CommandProcess
from vla.spec import ActionSpec, Field, RobotSpec

HOME = np.array([0.0, -0.35, 0.0, -2.45, 0.0, 2.1, np.pi / 4])
POLITE = Settings(priority=0, core=None)


class JointRobot:
    """share: of the way to the commanded joints that it goes within one sample (first-order tracking).

    log: where it writes; while there is a file of that name with .blind behind, it does not know where it is.
    """

    def __init__(self, spec: RobotSpec, log: str, share: float = 0.3) -> None:
        self._joints = HOME.copy()
        self._share = share
        self._blind = Path(f"{log}.blind")
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def measure(self) -> tuple[np.ndarray, float | None]:
        return self._joints * (np.nan if self._blind.exists() else 1), None

    def command(self, action: np.ndarray, joints: np.ndarray) -> None:
        os.write(self._log, np.concatenate([[time.monotonic()], action]).tobytes())
        self._joints += self._share * (action - self._joints)

    def close(self) -> None:
        os.write(self._log, np.full(8, np.nan).tobytes())
        os.close(self._log)


def read_log(path: Path) -> tuple[np.ndarray, bool]:
    """The joint positions (T, 7) it was commanded, and whether it was closed in the end."""
    data = path.read_bytes() if path.exists() else b""
    rows = np.frombuffer(data[: len(data) // 64 * 64]).reshape(-1, 8)
    closed = len(rows) > 0 and bool(np.isnan(rows[-1]).all())
    return rows[: len(rows) - closed, 1:], closed


def broken(spec: RobotSpec) -> JointRobot:
    raise OSError("no such arm")


def joint_spec(spec: RobotSpec) -> RobotSpec:
    return replace(spec, action=ActionSpec("joint_position", (Field("joints", 7, "rad"),)))


def long_chunk() -> np.ndarray:
    """Ten seconds of going out and back, never at rest on the way."""
    return HOME + 0.1 * np.sin(np.arange(1, 201)[:, None] * 0.1) * np.ones(7)


if __name__ == "__main__":  # a parent that will not live to close its command process
    from vla import assets

    robot = joint_spec(RobotSpec.load(assets.find("robot", "tabletop")))
    stream = CommandProcess(robot, Maker("joint_robot:JointRobot", {"log": sys.argv[1]}), POLITE)
    stream.start(timeout=600)
    print(stream.pid, flush=True)
    while True:
        stream.send(long_chunk())
        time.sleep(5)
