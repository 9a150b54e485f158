"""What goes over the wire is what ROS 2 sends: names, bytes, type hashes, qualities of service."""

import time

import numpy as np
import pytest
from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from vla.errors import UserError
from vla.robots.dds_bus import Bus
from vla.robots.dds_types import dds_name, dds_topic, to_stock, type_pair
from vla.ros_types import ARRAY, BASE, DISTRIBUTIONS, NAME, MessageTypes

KINDS = [
    "sensor_msgs/msg/JointState",
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "trajectory_msgs/msg/JointTrajectory",
    "geometry_msgs/msg/TwistStamped",
    "rosgraph_msgs/msg/Clock",
]


def filled(types: MessageTypes, ros_type: str, rng: np.random.Generator):
    """A message with something in every field; odd lengths, so that alignment matters."""
    message = types.new(ros_type)
    for name, definition in types.fields(ros_type):
        setattr(message, name, _fill(types, definition, getattr(message, name), rng))
    return message


def _fill(types: MessageTypes, definition, empty, rng: np.random.Generator):
    kind, inner = definition
    if kind == NAME:
        return filled(types, inner, rng)
    if kind == BASE:
        if inner[0] == "string":
            return "abcdefghij"[: int(rng.integers(1, 10))]
        return float(np.float32(rng.normal())) if "float" in inner[0] else int(rng.integers(1, 100))
    size = inner[1] if kind == ARRAY else 3
    if isinstance(empty, np.ndarray):
        return rng.integers(1, 100, size).astype(empty.dtype)
    return [_fill(types, inner[0], None, rng) for _ in range(size)]


@pytest.mark.parametrize("ros_type", KINDS)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_our_bytes_are_those_of_cyclonedds_itself(distribution, ros_type: str) -> None:
    types = MessageTypes(distribution)
    for seed in range(5):
        message = filled(types, ros_type, np.random.default_rng(seed))
        stock = to_stock(types, type_pair(types, ros_type).stock, message, ros_type)
        assert stock.serialize(use_version_2=False) == types.to_cdr(message)


@pytest.mark.parametrize("ros_type", KINDS)
def test_bytes_on_the_wire_are_those_of_rosbags(ros_type: str, domain: int) -> None:
    from rosbags.typesys import Stores, get_typestore

    types, got = MessageTypes(), []
    message = filled(types, ros_type, np.random.default_rng(1))
    ours, theirs = Bus(types, domain), Bus(types, domain)
    publisher = ours.advertise("/thing", ros_type, "reliable")
    pair = type_pair(types, ros_type)
    reader = DataReader(
        theirs.participant, Topic(theirs.participant, "rt/thing", pair.raw), theirs.qos("reliable", 1, ros_type, True)
    )
    stock_writer = DataWriter(
        theirs.participant, Topic(theirs.participant, "rt/other", pair.stock), theirs.qos("reliable", 1, ros_type, True)
    )
    ours.subscribe("/other", ros_type, "sensor", lambda message, _: got.append(message))
    ours.start()
    assert ours.wait(lambda: publisher.readers and stock_writer.get_publication_matched_status().current_count, 120)
    publisher.publish(message)
    stock_writer.write(to_stock(types, pair.stock, message, ros_type))
    assert ours.wait(lambda: bool(got), 120)
    expected = bytes(get_typestore(Stores.ROS2_JAZZY).serialize_cdr(message, ros_type))
    sample = _take(reader)
    assert sample.cdr[: len(expected)] == expected and len(sample.cdr) - len(expected) < 4
    assert types.to_cdr(got[0]) == expected  # and a writer that describes every field is understood
    ours.close()
    theirs.close()


def test_names_and_hashes_are_those_of_ros(domain: int) -> None:
    assert dds_topic("/joint_states") == "rt/joint_states"
    assert dds_name("sensor_msgs/msg/JointState") == "sensor_msgs::msg::dds_::JointState_"
    bus = Bus(MessageTypes(), domain)
    bus.advertise("/joint_states", "sensor_msgs/msg/JointState", "sensor")
    (endpoint,) = BuiltinDataReader(bus.participant, BuiltinTopicDcpsPublication).read(10)
    assert (endpoint.topic_name, endpoint.type_name) == ("rt/joint_states", "sensor_msgs::msg::dds_::JointState_")
    # Of `ros2 topic info -v` on Jazzy.
    known = "RIHS01_a13ee3a330e346c9d87b5aa18d24e11690752bd33a0350f11c5882bc9179260e"
    assert endpoint.qos[Policy.Userdata].data == f"typehash={known};".encode()
    assert endpoint.qos[Policy.Reliability] == Policy.Reliability.Reliable(100_000_000)
    assert not endpoint.qos[Policy.DataRepresentation].use_xcdrv2_representation
    bus.close()


def test_what_keeps_endpoints_apart_is_named(domain: int) -> None:
    types = MessageTypes()
    one, other = Bus(types, domain), Bus(types, domain)
    other.subscribe("/late", "std_msgs/msg/String", "transient_local", lambda *_: None)
    other.subscribe("/thing", "std_msgs/msg/String", "reliable", lambda *_: None)
    one.advertise("/late", "std_msgs/msg/String", "reliable")
    one.advertise("/thing", "std_msgs/msg/Int64", "reliable")
    wanted = {
        "/late: incompatible QoS, durability: a publisher offers less",
        "/thing: is published as std_msgs/msg/Int64, the spec says std_msgs/msg/String",
    }
    deadline = time.monotonic() + 120
    while not wanted <= set(other.complaints()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert wanted <= set(other.complaints())
    assert "/late: incompatible QoS, durability: a subscriber asks for more" in one.complaints()
    one.close()
    other.close()


def test_who_comes_late_gets_the_last_transient_local_message(domain: int) -> None:
    types, got = MessageTypes(), []
    one, late = Bus(types, domain), Bus(types, domain)
    one.advertise("/status", "std_msgs/msg/String", "transient_local").publish(
        types.new("std_msgs/msg/String", data="as it was")
    )
    late.subscribe("/status", "std_msgs/msg/String", "transient_local", lambda message, _: got.append(message.data))
    late.start()
    assert late.wait(lambda: got == ["as it was"], 120)
    one.close()
    late.close()


def test_a_domain_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "twelve")
    with pytest.raises(UserError, match="ROS_DOMAIN_ID is 'twelve'"):
        Bus(MessageTypes())


def _take(reader: DataReader):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if taken := reader.take(1):
            return taken[0]
        time.sleep(0.02)
    raise AssertionError("nothing came")
