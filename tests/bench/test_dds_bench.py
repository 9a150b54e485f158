"""Times depend on the machine; that everything arrives does not."""

from vla.bench.dds import measure
from vla.robots.dds_bus import use_loopback


def test_nothing_is_lost_between_two_processes() -> None:
    use_loopback()
    measured = measure(1.0, stock=False, rates={"/left": 5, "/joint_states": 50})
    assert (measured.sent, measured.lost) == (55, 0)
    assert set(measured.ms) == {"/left", "/joint_states"} and all(min(ms) > 0 for ms in measured.ms.values())
