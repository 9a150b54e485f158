"""rclpy as a message bus: a robot over ROS is then the robot that `vla.robots.dds` drives without ROS.

Messages cross rclpy as the bytes they are on the wire, and `vla.ros_types` reads and writes those: rclpy's own
conversion would walk an image byte by byte while it holds the interpreter.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rosidl_runtime_py.utilities import get_message

from vla.errors import UserError
from vla.robots.dds_bus import default_domain
from vla.robots.message_bus import DEPTH, Handler, MessageBus, Qos
from vla.ros_types import DISTRIBUTIONS, MessageTypes


def message_types() -> MessageTypes:
    """Those of the ROS that is running; Jazzy's for distributions that are not known."""
    distribution = os.environ.get("ROS_DISTRO", "")
    return MessageTypes(distribution) if distribution in DISTRIBUTIONS else MessageTypes()  # type: ignore[arg-type]


class RosPublisher:
    """A `Publisher` of a node."""

    def __init__(self, types: MessageTypes, topic: str, ros_type: str, publisher: Any) -> None:
        self.topic, self.type = topic, ros_type
        self._types, self.publisher = types, publisher

    def publish(self, message: Any) -> None:
        self.publisher.publish(self._types.to_cdr(message))

    @property
    def readers(self) -> int:
        return int(self.publisher.get_subscription_count())


class RosBus(MessageBus):
    """The topics of `node`, which somebody else spins, in more threads than one.

    Handlers are called one at a time. `close` takes every publisher and subscription away; the node stays.
    """

    def __init__(self, node: Node, types: MessageTypes | None = None) -> None:
        super().__init__(types or message_types(), default_domain())
        self._node = node
        self._group = MutuallyExclusiveCallbackGroup()
        self._subscriptions: list[tuple[str, str, Any]] = []
        self._publishers: list[RosPublisher] = []
        self._incompatible: dict[str, str] = {}
        self._running = self._closed = False

    def subscribe(self, topic: str, ros_type: str, qos: Qos, handler: Handler, depth: int | None = None) -> None:
        events = SubscriptionEventCallbacks(incompatible_qos=self._hear_of(topic, "a publisher offers less"))
        subscription = self._node.create_subscription(
            _message_class(ros_type),
            topic,
            partial(self._receive, topic, ros_type, handler),
            _profile(qos, depth, reliable=qos != "sensor"),
            callback_group=self._group,
            event_callbacks=events,
            raw=True,
        )
        self._subscriptions.append((topic, ros_type, subscription))

    def advertise(self, topic: str, ros_type: str, qos: Qos, depth: int | None = None) -> RosPublisher:
        events = PublisherEventCallbacks(incompatible_qos=self._hear_of(topic, "a subscriber asks for more"))
        made = self._node.create_publisher(
            _message_class(ros_type), topic, _profile(qos, depth, reliable=True), event_callbacks=events
        )
        publisher = RosPublisher(self.types, topic, ros_type, made)
        self._publishers.append(publisher)
        return publisher

    def start(self) -> None:
        self._running = True

    def close(self) -> None:
        self._closed = True
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher.publisher)
        for _, _, subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._publishers.clear()
        self._subscriptions.clear()

    def now(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def complaints(self) -> list[str]:
        found = list(self._incompatible.values())
        asked = [
            *(
                ("published", topic, kind, self._node.get_publishers_info_by_topic)
                for topic, kind, _ in self._subscriptions
            ),
            *(("read", one.topic, one.type, self._node.get_subscriptions_info_by_topic) for one in self._publishers),
        ]
        for how, topic, ros_type, endpoints in asked:
            others = {endpoint.topic_type for endpoint in endpoints(topic)} - {ros_type}
            found += [f"{topic}: is {how} as {other}, the spec says {ros_type}" for other in sorted(others)]
        return found + [f"{topic}: {fault}" for topic, fault in self.faults.items()]

    def _receive(self, topic: str, ros_type: str, handler: Handler, cdr: bytes) -> None:
        received = time.time_ns()
        with self.changed:
            if self._running and not self._closed:
                self.hand_over(topic, ros_type, cdr, handler, received)
                self.changed.notify_all()

    def _hear_of(self, topic: str, who: str) -> Callable[[Any], None]:
        def incompatible(event: Any) -> None:
            policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
            self._incompatible[topic] = f"{topic}: incompatible QoS, {policy}: {who}"
            self._node.get_logger().warning(self._incompatible[topic])

        return incompatible


def _message_class(ros_type: str) -> Any:
    try:
        return get_message(ros_type)
    except (AttributeError, ModuleNotFoundError, ValueError):
        package = ros_type.split("/")[0].replace("_", "-")
        raise UserError(f"message type {ros_type} is not installed: apt install ros-$ROS_DISTRO-{package}") from None


def _profile(qos: Qos, depth: int | None, reliable: bool) -> QoSProfile:
    assert qos in get_args(Qos)
    return QoSProfile(
        depth=depth or DEPTH[qos],
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if qos == "transient_local" else DurabilityPolicy.VOLATILE,
    )
