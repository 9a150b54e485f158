"""Settings for every test process; set before torch and the tokenizers are imported."""

import os
import shutil
import subprocess
from itertools import count
from pathlib import Path

import pytest

# Workers of pytest-xdist share few cores: one thread each is faster, and results do not depend on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tests need no network; what would reach for the hub fails at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A test may import mujoco before the package that chooses how to render.
os.environ.setdefault("MUJOCO_GL", "egl")


@pytest.fixture(scope="session")
def domains():
    """Numbers of DDS domains, 1 to 200, that the other processes of this test run do not take meanwhile."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    each = 200 // workers
    return (1 + worker * each + turn % each for turn in count(os.getpid()))


@pytest.fixture(scope="session")
def tracked():
    """Path -> bytes of every file that git tracks here."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no checkout of git")
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True, text=True, check=True)
    return {path: (root / path).lstat().st_size for path in listed.stdout.split("\0") if (root / path).is_file()}


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """The folder of a whole but tiny checkpoint with random weights, the same every time."""
    from vla import assets
    from vla.spec import RobotSpec

    spec = RobotSpec.load(assets.find("robot", "tabletop"))
    return save_untrained(tmp_path_factory.mktemp("policies") / "untrained", spec, [0.01] * 3 + [0.02] * 3 + [1.0])


@pytest.fixture(scope="session")
def untrained_for():
    """Given a folder, a spec and how far actions spread, saves such a checkpoint there."""
    return save_untrained


def save_untrained(folder, spec, spread):
    import numpy as np
    import torch

    from vla.actions.normalize import Normalizer
    from vla.s1.system import FastConfig, FastSystem
    from vla.s2.small import SmallShape, small_slow_system
    from vla.tandem import TandemConfig, TandemPolicy

    torch.manual_seed(0)
    shape = SmallShape(channels=(16, 16, 16, 16), width=32, layers=1, heads=2, mlp=32, vocabulary=400)
    s2 = small_slow_system(["lift the red cube", "push the blue ball to the left"], shape=shape)
    fast = FastConfig(channels=(16, 16, 16, 16), width=32, layers=1, heads=2, mlp=32, horizon=8)
    s1 = FastSystem(fast, spec.state_size, spec.action_size, s2.latent_shape)
    rng = np.random.default_rng(0)
    actions = np.array(spread) * rng.uniform(-1, 1, (64, spec.action_size))
    normalizer = Normalizer.fit(rng.normal(size=(64, spec.state_size)), actions)
    TandemPolicy(spec, s2.eval(), s1.eval(), normalizer, TandemConfig(fast=fast)).save_pretrained(folder)
    return folder
