"""What the launch files share."""

from __future__ import annotations

from typing import Any

from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition


def config(name: str) -> PathJoinSubstitution:
    """The installed parameter file of that name."""
    return PathJoinSubstitution([FindPackageShare("vla_ros"), "config", name])


POLICY = {
    "params_file": (config("policy.yaml"), "parameters of the policy; the arguments that are given come before them"),
    "policy": ("", "a shipped name, a folder, a hub id, or a server: ws://HOST:PORT"),
    "spec": ("", "where the robot lives in ROS"),
    "gate": ("", "whether the safety gate is in the path"),
    "patience": ("", "seconds to wait for a stream"),
    "use_sim_time": ("", "whether to follow /clock"),
}
"""Launch arguments of the policy node. Empty: what the file says."""
KINDS = {"gate": bool, "patience": float, "use_sim_time": bool}


def declare(arguments: dict[str, tuple[Any, str]]) -> list[DeclareLaunchArgument]:
    """arguments: name -> (default, what it is)."""
    return [
        DeclareLaunchArgument(name, default_value=default, description=about)
        for name, (default, about) in arguments.items()
    ]


def given(name: str, kind: type = str) -> ParameterValue:
    """The launch argument of that name as a parameter of that type."""
    return ParameterValue(LaunchConfiguration(name), value_type=kind)


def policy_node() -> OpaqueFunction:
    """The node `policy` with the arguments `POLICY`, active as soon as it can be."""

    def make(context: LaunchContext) -> list[Any]:
        names = [name for name in POLICY if name != "params_file" and LaunchConfiguration(name).perform(context)]
        node = LifecycleNode(
            package="vla_ros",
            executable="policy",
            name="policy",
            namespace="",
            output="screen",
            parameters=[
                LaunchConfiguration("params_file"),
                {name: given(name, KINDS.get(name, str)) for name in names},
            ],
        )
        return activated(node)

    return OpaqueFunction(function=make)


def activated(node: LifecycleNode) -> list[Any]:
    """The node, configured when it has started and activated when it is configured."""

    def change(transition: int) -> EmitEvent:
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))

    activate = OnStateTransition(
        target_lifecycle_node=node,
        start_state="configuring",
        goal_state="inactive",
        entities=[change(Transition.TRANSITION_ACTIVATE)],
    )
    start = OnProcessStart(target_action=node, on_start=[change(Transition.TRANSITION_CONFIGURE)])
    return [RegisterEventHandler(activate), RegisterEventHandler(start), node]
