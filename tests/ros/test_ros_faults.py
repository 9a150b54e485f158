"""A robot that gets something wrong, over a real rclpy: what is named without ROS is named with it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

pytest.importorskip("rclpy", reason="no rclpy: source ROS 2 Jazzy (docs/ros2.md)")

import rclpy
from fake_robot import FAKE, FAULTS, PASSING, FakeRobot, check_named, check_recovered
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from vla.robots.dds import DdsRobot
from vla.spec import RobotSpec
from vla_ros.ros_bus import RosBus

Join = Callable[[str], Node]
"""A node of that name, spun, as if in a process of its own: one participant cannot have two types on a topic."""


@pytest.fixture
def join(domain: int) -> Iterator[Join]:
    with ExitStack() as leaving:

        def make(name: str) -> Node:
            context = Context()
            rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
            leaving.callback(context.shutdown)
            node = Node(name, context=context)
            leaving.callback(node.destroy_node)
            executor = MultiThreadedExecutor(4, context=context)
            executor.add_node(node)
            thread = threading.Thread(target=executor.spin, daemon=True)
            thread.start()
            leaving.callback(thread.join, 10)
            leaving.callback(executor.shutdown)
            return node

        yield make


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_what_a_robot_sends_that_cannot_be_used_is_named(join: Join, fault: str, words: str) -> None:
    check_named(driver(join("policy")), FakeRobot(RosBus(join("arm")), fault), words)


@pytest.mark.parametrize("fault", PASSING)
def test_what_a_robot_sends_again_is_gone_on_with(join: Join, fault: str) -> None:
    check_recovered(driver(join("policy")), FakeRobot(RosBus(join("arm"))), fault)


def test_joints_in_another_order_are_put_right(join: Join) -> None:
    fake = FakeRobot(RosBus(join("arm")), "reordered")
    with fake.speaking(), driver(join("policy"))(300, FAKE) as robot:
        assert robot.observe().state.tolist() == [1, 2]
    fake.close()


def driver(node: Node) -> Callable[[float, RobotSpec], DdsRobot]:
    return lambda patience, spec: DdsRobot(spec, patience=patience, bus=lambda types: RosBus(node, types))
