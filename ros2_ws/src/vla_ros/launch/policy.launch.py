"""The policy on a robot that is there, active as soon as its streams come:

ros2 launch vla_ros policy.launch.py policy:=outputs/arm spec:=arm.yaml
"""

from launch import LaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.substitutions import FindPackageShare

from vla_ros.launching import activated, declare, given

ARGUMENTS = {
    "params_file": (
        PathJoinSubstitution([FindPackageShare("vla_ros"), "config", "policy.yaml"]),
        "parameters of the node; the arguments below come before them",
    ),
    "policy": ("tabletop", "a shipped name, a folder, a hub id, or a server: ws://HOST:PORT"),
    "spec": ("", "where the robot lives in ROS; empty: the shipped spec of the policy's robot"),
    "use_sim_time": ("false", "follow /clock"),
}


def generate_launch_description() -> LaunchDescription:
    policy = LifecycleNode(
        package="vla_ros",
        executable="policy",
        name="policy",
        namespace="",
        output="screen",
        parameters=[
            LaunchConfiguration("params_file"),
            {"policy": given("policy"), "spec": given("spec"), "use_sim_time": given("use_sim_time", bool)},
        ],
    )
    return LaunchDescription([*declare(ARGUMENTS), *activated(policy)])
