import sys
from itertools import count
from os import getpid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "robots"), str(ROOT / "ros2_ws" / "src" / "vla_ros")]
_DOMAINS = count(getpid() + 100)


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> int:
    """A domain of its own, on this machine only, for this process and those it starts."""
    from vla.robots.dds_bus import LOOPBACK

    number = 1 + next(_DOMAINS) % 200
    monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
    return number
