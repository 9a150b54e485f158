"""The emergency stop of the policy node, without ROS."""

from vla_ros.emergency_stop import EmergencyStop


def test_a_stop_stays_latched_when_the_button_is_released_and_is_not_reset_before() -> None:
    stop = EmergencyStop()
    assert stop.hear(True) and not stop.hear(True)  # as readers of several qualities of service hear it
    assert "release it first" in stop.reset() and stop.latched
    assert not stop.hear(False) and stop.latched
    assert stop.reset() == "" and not stop.latched


def test_a_stop_without_a_button_is_reset_at_once_and_may_come_again() -> None:
    stop = EmergencyStop()
    assert stop.latch() and not stop.latch()
    assert stop.reset() == "" and stop.hear(True)
