"""Runs `vla data import` in this process, and reads what came of it as LeRobot does."""

import numpy as np

from vla.cli import main


def run_import(capfd, kind, *argv):
    """Exit code, what was printed, and what was complained of."""
    code = main(["data", "import", kind, *map(str, argv), "--workers", "1"])
    out, err = capfd.readouterr()
    return code, out, err


def dataset(root):
    from lerobot.datasets import LeRobotDataset

    return LeRobotDataset("local/test", root=root)


def column(read, key):
    return np.array(read.hf_dataset[key], np.float32)
