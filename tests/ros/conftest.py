import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "ros"), str(ROOT / "tests" / "robots"), str(ROOT / "ros2_ws" / "src" / "vla_ros")]


@pytest.fixture
def domain(domains: Iterator[int], monkeypatch: pytest.MonkeyPatch) -> int:
    """A domain of its own, on this machine only, for this process and those it starts."""
    from vla.robots.dds_bus import LOOPBACK

    number = next(domains)
    monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
    return number
