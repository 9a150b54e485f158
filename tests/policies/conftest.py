"""A small dataset, and a new S1 trained on it by LeRobot's own command, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from vla.data.collect import collect

TINY = (
    *("--policy.fast.channels=[16,16,16,16]", "--policy.fast.width=32", "--policy.fast.layers=1"),
    *("--policy.fast.heads=2", "--policy.fast.mlp=32", "--policy.fast.horizon=8"),
)
# Nothing is drawn: what is trained depends on weights, moments, rate and the order of samples alone.
CERTAIN = (
    *("--policy.ages=[20]", "--policy.delays.none=0", "--policy.delays.no_prefix=1", "--policy.state_noise=0"),
    *("--policy.augment.shift=0", "--policy.augment.contrast=0"),
    *("--policy.augment.brightness=0", "--policy.augment.tint=0"),
)


def train_arguments(dataset: Path, out: Path, s2: Path) -> list[str]:
    return [
        *("--policy.type=tandem", f"--policy.s2={s2}", "--policy.device=cpu", *TINY, *CERTAIN),
        *("--dataset.repo_id=local/lift", f"--dataset.root={dataset}", f"--output_dir={out}"),
        *("--steps=4", "--save_freq=2", "--batch_size=4", "--num_workers=0", "--log_freq=1"),
    ]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("lerobot") / "lift"
    collect(env="tabletop", episodes=2, seed=5, out=out, policy=None, workers=1, task="lift", stills=0)
    return out


@pytest.fixture(scope="session")
def trained(dataset, untrained, tmp_path_factory):
    """The folder of a finished run of lerobot-train, and what it printed."""
    out = tmp_path_factory.mktemp("lerobot") / "run"
    command = [str(Path(sys.executable).with_name("lerobot-train")), *train_arguments(dataset, out, untrained)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return out, done.stderr
