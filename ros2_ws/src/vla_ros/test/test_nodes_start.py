"""Every node starts with the parameters it documents, and publishes nothing of its own before it is told to."""

from dataclasses import fields

import pytest
import rclpy

from vla.robots.dds_bus import LOOPBACK
from vla_ros.parameters import PolicyParameters, RecorderParameters, SimParameters, read
from vla_ros.policy_node import PolicyNode
from vla_ros.recorder_node import RecorderNode
from vla_ros.sim_node import SimNode

NODES = [(PolicyNode, PolicyParameters), (RecorderNode, RecorderParameters), (SimNode, SimParameters)]


@pytest.fixture(autouse=True)
def ros(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init(domain_id=231)
    yield
    rclpy.shutdown()


@pytest.mark.parametrize(("make", "kind"), NODES)
def test_a_node_has_its_parameters(make, kind) -> None:
    node = make()
    assert read(node, kind) == kind()
    assert all(node.has_parameter(field.name) for field in fields(kind))
    for publisher in node.publishers:
        assert publisher.topic_name.split("/")[-1] in ("rosout", "parameter_events", "transition_event")
    node.close()
    node.destroy_node()
