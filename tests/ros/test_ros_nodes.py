# ruff: noqa: E402
"""The nodes on a real rclpy: what a robot engineer expects of a lifecycle node that moves an arm.

Needs a ROS 2 Jazzy with `vla_interfaces` and `vla_ros` built and sourced; without it everything here is skipped.
"""

import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

for needed in ("rclpy", "vla_interfaces"):
    pytest.importorskip(needed, reason=f"no {needed}: build ros2_ws with ROS 2 Jazzy and source it (docs/ros2.md)")

import rclpy
from action_msgs.msg import GoalStatus
from lifecycle_msgs.msg import Transition
from rclpy.executors import MultiThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from ros_graph import PATIENCE, TWISTS, USUAL, Client, Program, program
from sensor_msgs.msg import CameraInfo, CompressedImage, JointState
from std_msgs.msg import Bool
from tf2_msgs.msg import TFMessage

from vla.robots.dds import DdsRobot
from vla_ros.parameters import PolicyParameters, robot_spec
from vla_ros.reporting import Reporter

COMMANDS = (TWISTS, "/gripper_controller/commands")
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
CONFIGURE, ACTIVATE, DEACTIVATE, SHUTDOWN = (
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_INACTIVE_SHUTDOWN,
)


@pytest.fixture
def client(domain: int) -> Iterator[Client]:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Client()
    executor = MultiThreadedExecutor(2)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield node
    executor.shutdown()
    thread.join(10)
    node.destroy_node()
    rclpy.shutdown()


@pytest.fixture
def sim(client: Client) -> Iterator[Program]:
    with program("sim", lockstep="true", seed=3) as one:
        yield one


@contextmanager
def policy(client: Client, active: bool = True, **parameters: Any) -> Iterator[Program]:
    with program("policy", **{"patience": PATIENCE, "use_sim_time": "true", **parameters}) as one:
        if active:
            assert client.change("policy", CONFIGURE), one.lines
            assert client.change("policy", ACTIVATE), one.lines
        yield one


def test_nothing_is_published_and_no_goal_is_taken_unless_active(client: Client, sim: Program, untrained: Path) -> None:
    with policy(client, active=False, policy=untrained) as node:
        assert not client.send("").accepted
        assert client.change("policy", CONFIGURE)
        assert not client.send("").accepted and not client.publishers_of("policy")
        assert client.change("policy", ACTIVATE)
        client.until(lambda: client.publishers_of("policy") >= {*COMMANDS, "/diagnostics"}, "publishers")
        handle = client.send("", 60.0)
        assert handle.accepted
        client.until(lambda: client.feedback, "feedback")
        assert not client.send("").accepted  # one at a time
        assert client.change("policy", DEACTIVATE)
        assert client.result(handle).result.reason == "the node has been deactivated"
        client.until(lambda: not client.publishers_of("policy"), "leaving")
        assert not client.send("").accepted
        assert any("the node is not active" in line for line in node.lines)


def test_an_instruction_is_followed_to_success_and_told_on_the_way(client: Client, sim: Program) -> None:
    with policy(client, seed=3, gate="false"):
        handle = client.send()
        assert handle.accepted
        answer = client.result(handle)
        assert (answer.status, answer.result.outcome) == (GoalStatus.STATUS_SUCCEEDED, "success"), answer.result
        client.until(lambda: client.feedback and client.feedback[-1].steps > 0, "feedback")
        assert any(one.subtask for one in client.feedback) and not math.isnan(client.feedback[-1].s2_age)
        client.until(lambda: client.diagnostics, "diagnostics")
        assert {one.name for one in client.diagnostics[-1].status} == {"policy: streams", "policy: control"}


def test_cancel_stops_the_arm_within_100_ms_of_the_robots_clock(client: Client, sim: Program, untrained: Path) -> None:
    with policy(client, policy=untrained):
        handle = client.send("", 600.0)
        client.until(lambda: any(size > 1e-4 for _, size in client.twists), "motion")
        future = handle.cancel_goal_async()
        client.until(future.done, "an answer to the cancel request")
        accepted = client.clock
        answer = client.result(handle)
        assert (answer.status, answer.result.outcome) == (GoalStatus.STATUS_CANCELED, "canceled")
        commands = len(client.twists)
        time.sleep(1)
        assert len(client.twists) == commands  # nothing comes after that
        assert client.clock - accepted <= 150_000_000  # 100 ms, and the period under way


def test_the_emergency_stop_is_latched_until_it_is_reset(client: Client, sim: Program, untrained: Path) -> None:
    said: list[bool] = []
    client.create_subscription(Bool, "/policy/e_stopped", lambda message: said.append(message.data), LATCHED)
    with policy(client, policy=untrained):
        handle = client.send("", 600.0)
        client.until(lambda: client.feedback, "feedback")
        button = client.create_publisher(Bool, "/e_stop", 10)
        client.until(button.get_subscription_count, "a listener on /e_stop")
        button.publish(Bool(data=True))
        answer = client.result(handle)
        assert (answer.status, answer.result.outcome) == (GoalStatus.STATUS_ABORTED, "stopped")
        assert "the topic e_stop" in answer.result.reason and not client.send("").accepted
        assert not client.trigger("/policy/reset_e_stop").success
        button.publish(Bool(data=False))
        assert not client.send("").accepted
        client.until(lambda: client.trigger("/policy/reset_e_stop").success, "the release of the button")
        handle = client.send("", 600.0)
        assert handle.accepted and client.trigger("/policy/e_stop").success
        assert client.result(handle).result.outcome == "stopped"
        client.until(lambda: said[-1:] == [True] and False in said, "the state of the stop")


@pytest.mark.parametrize("button", [BEST_EFFORT, LATCHED], ids=["best effort", "latched and pressed before"])
def test_a_button_of_any_quality_of_service_stops_until_it_is_released(
    client: Client, sim: Program, untrained: Path, button: QoSProfile
) -> None:
    before = button is LATCHED
    pressing = client.create_publisher(Bool, "/e_stop", button)
    said: list[bool] = []
    client.create_subscription(Bool, "/policy/e_stopped", lambda message: said.append(message.data), LATCHED)
    if before:
        pressing.publish(Bool(data=True))
    with policy(client, policy=untrained):
        while not before and said[-1:] != [True]:  # best effort may be lost
            pressing.publish(Bool(data=True))
            time.sleep(0.2)
        client.until(lambda: said[-1:] == [True], "the stop")
        assert not client.trigger("/policy/reset_e_stop").success and not client.send("").accepted
        client.until(lambda: pressing.publish(Bool(data=False)) or client.trigger("/policy/reset_e_stop").success)
        assert client.send("", 0.5).accepted


def test_a_report_that_is_due_when_the_node_leaves_its_robot_asks_it_nothing(client: Client) -> None:
    reporter = Reporter(client, DdsRobot(robot_spec("tabletop", True)), PolicyParameters())
    with pytest.raises(RuntimeError, match="connect the robot first"):
        reporter._report()
    reporter.close()
    reporter._report()


def test_what_happened_is_a_dataset_afterwards(client: Client, sim: Program, untrained: Path, tmp_path: Path) -> None:
    pytest.importorskip("lerobot")
    out = tmp_path / "recorded"
    with program("recorder", out=out, use_sim_time="true") as recorder, policy(client, policy=untrained, seed=3):
        assert client.change("recorder", CONFIGURE) and client.change("recorder", ACTIVATE), recorder.lines
        assert client.result(client.send("", 1.0)).result.outcome == "timeout"
        assert client.change("recorder", DEACTIVATE), recorder.lines
    from lerobot.datasets import LeRobotDataset

    dataset = LeRobotDataset("vla/recorded", root=out)
    assert dataset.num_frames >= 15 and dataset[5]["observation.images.front"].shape == (3, 96, 96)
    assert dataset[5]["task"]


def test_the_simulated_robot_has_camera_info_compressed_pictures_tf_and_a_reset_service(client: Client) -> None:
    client.listen(CameraInfo, "/front/camera_info")
    client.listen(CompressedImage, "/front/image_raw/compressed")
    client.listen(TFMessage, "/tf", 100)
    client.listen(JointState, "/joint_states")
    with program("sim", seed=3):
        client.until(lambda: len(client.heard) == 4, f"all of it, only {client.heard.keys()}")
        info, tf = client.heard["/front/camera_info"], client.heard["/tf"]
        assert (info.width, info.height, info.header.frame_id) == (96, 96, "front") and info.k[0] > 10
        frames = {one.child_frame_id for one in tf.transforms}
        assert {"tool", "front", "wrist", "link7"} <= frames and tf.transforms[0].header.frame_id == "base"
        assert bytes(client.heard["/front/image_raw/compressed"].data[:4]) == b"\x89PNG"
        assert client.heard["/joint_states"].name[:2] == ["joint1", "joint2"]
        before = client.clock
        answer = client.trigger("/sim/reset")
        assert answer.success and answer.message
        client.until(lambda: client.clock > before + 5 * 10**9, "the clock to go on")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, "transition"])
def test_shutdown_in_the_middle_of_an_instruction_leaves_no_publisher(
    client: Client, sim: Program, untrained: Path, how: Any
) -> None:
    with policy(client, policy=untrained) as node:
        client.send("", 600.0)
        client.until(lambda: client.feedback, "feedback")
        if how == "transition":
            assert client.change("policy", Transition.TRANSITION_ACTIVE_SHUTDOWN)
            client.until(lambda: not client.publishers_of("policy"), "leaving")
        else:
            assert node.stop(how) == 0, node.lines
        client.until(lambda: not any(client.count_publishers(topic) for topic in COMMANDS), "leaving")


def test_when_the_node_is_killed_the_arm_rests_within_200_ms(client: Client, untrained: Path) -> None:
    seen: list[tuple[float, np.ndarray]] = []

    def note(message: JointState) -> None:
        stamp = message.header.stamp
        seen.append((stamp.sec + stamp.nanosec * 1e-9, np.array(message.position[:7])))

    def moving() -> list[float]:
        """When a joint was faster than 0.02 rad/s."""
        return [
            now
            for (before, was), (now, here) in pairwise(list(seen))
            if np.abs(here - was).max() > 0.02 * (now - before)
        ]

    client.create_subscription(JointState, "/joint_states", note, 100)
    late: list[float] = []
    while not late or (min(late) > 0.2 and len(late) < 3):  # a busy machine is late, never early
        seen.clear()
        with program("sim", seed=3), policy(client, policy=untrained) as node:
            assert client.send("", 600.0).accepted
            client.until(lambda: len(moving()) > 5 and moving()[-1] == seen[-1][0], "motion")
            killed = seen[-1][0]
            node.stop(signal.SIGKILL)
            client.until(lambda killed=killed: seen[-1][0] > killed + 1, "time to pass")
            late.append(round(moving()[-1] - killed, 3))
            client.until(lambda: not client.goals.server_is_ready(), "the dead node to be forgotten")
    assert min(late) <= 0.2, late


def test_a_robot_that_dies_and_comes_back_with_its_clock_at_the_beginning_is_gone_on_with(
    client: Client, untrained: Path
) -> None:
    with ExitStack() as leaving:
        first = leaving.enter_context(program("sim", lockstep="true", seed=3))
        node = leaving.enter_context(policy(client, policy=untrained))
        handle = client.send("", 600.0)
        client.until(lambda: client.feedback, "feedback")
        first.stop(signal.SIGKILL)
        leaving.enter_context(program("sim", lockstep="true", seed=4))
        heard = len(client.feedback)
        client.until(lambda: len(client.feedback) > heard + 5, "going on")
        handle.cancel_goal_async()
        assert client.result(handle).result.outcome == "canceled"
        client.until(lambda: any("its node has begun anew" in line for line in node.lines), "its name")
        assert client.result(client.send("", 0.5)).result.outcome == "timeout"


def test_a_spec_without_what_the_gate_needs_is_refused_before_any_goal(
    client: Client, untrained: Path, tmp_path: Path
) -> None:
    data = robot_spec("tabletop", False).to_dict()
    del data["limits"]
    limitless = shutil.copytree(untrained, tmp_path / "limitless")
    for file in (limitless / "robot_spec.yaml", tmp_path / "arm.yaml"):
        file.write_text(yaml.safe_dump(data))
    with policy(client, active=False, policy=limitless, spec=tmp_path / "arm.yaml") as node:
        assert not client.change("policy", CONFIGURE)
        client.until(lambda: any("has no limits" in line and "gate to false" in line for line in node.lines), "why")


def test_a_device_that_is_not_there_is_named(client: Client) -> None:
    with policy(client, active=False, device="tpu") as node:
        assert not client.change("policy", CONFIGURE)
        client.until(lambda: any("unknown device 'tpu'" in line for line in node.lines), "its name")


def test_a_robot_that_is_not_there_is_named(client: Client, untrained: Path) -> None:
    with program("policy", patience=1.0, policy=untrained) as node:
        assert client.change("policy", CONFIGURE)
        assert not client.change("policy", ACTIVATE)
        client.until(lambda: any("nothing has come on /clock" in line for line in node.lines), "its name")
        assert not client.publishers_of("policy") - USUAL


def test_the_launch_file_brings_up_a_robot_and_a_policy_that_take_an_instruction(client: Client) -> None:
    launch = Program(["ros2", "launch", "vla_ros", "sim.launch.py", "lockstep:=true", "seed:=3", "patience:=300.0"])
    try:
        handles: list[Any] = []
        client.until(lambda: handles.append(client.send("", 2.0)) or handles[-1].accepted, "activation")
        result = client.result(handles[-1]).result
        assert result.outcome in ("success", "timeout") and result.steps >= 40
    finally:
        os.kill(launch.process.pid, signal.SIGINT)
        assert launch.process.wait(PATIENCE) == 0, launch.lines
