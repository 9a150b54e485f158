import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for sim_process.py, which starts simulated robots


@pytest.fixture(scope="session")
def lerobot_plugins(tmp_path_factory) -> str:
    """Plugins for LeRobot are installed; what to put on PYTHONPATH for another process to have them."""
    from lerobot_plugin import install

    return install(tmp_path_factory.mktemp("site"))


@pytest.fixture
def domain(domains: Iterator[int]) -> int:
    """A DDS domain of its own, on this machine only."""
    from vla.robots.dds_bus import use_loopback

    use_loopback()
    return next(domains)
