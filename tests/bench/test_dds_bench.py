"""Times depend on the machine; that everything arrives does not."""

import os
import signal
import subprocess
import sys

import psutil

from vla.bench.dds import measure
from vla.robots.dds_bus import use_loopback


def test_nothing_is_lost_between_two_processes() -> None:
    use_loopback()
    measured = measure(1.0, stock=False, rates={"/left": 5, "/joint_states": 50})
    assert (measured.sent, measured.lost) == (55, 0)
    assert set(measured.ms) == {"/left", "/joint_states"} and all(min(ms) > 0 for ms in measured.ms.values())


def test_the_simulated_robot_ends_with_the_bench_that_is_told_to_end() -> None:
    code = """
from vla.bench.dds_episodes import simulated
with simulated("tabletop"):
    print("there", flush=True)
    while True:
        input()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    bench = subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, **pipes)
    assert bench.stdout and bench.stdout.readline() == "there\n"
    (robot,) = psutil.Process(bench.pid).children()
    bench.send_signal(signal.SIGTERM)
    bench.communicate(timeout=300)
    assert not robot.is_running()
