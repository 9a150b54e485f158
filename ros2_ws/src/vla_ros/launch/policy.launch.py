"""The policy on a robot that is there, active as soon as its streams come:

ros2 launch vla_ros policy.launch.py policy:=outputs/arm spec:=arm.yaml
"""

from launch import LaunchDescription

from vla_ros.launching import POLICY, declare, policy_node


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*declare(POLICY), policy_node()])
