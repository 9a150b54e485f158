"""A simulated robot, and the policy that drives it, active when both are there:

ros2 launch vla_ros sim.launch.py seed:=7
ros2 action send_goal --feedback /policy/run_instruction vla_interfaces/action/RunInstruction "{}"
"""

from launch import LaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.substitutions import FindPackageShare

from vla_ros.launching import activated, declare, given

ARGUMENTS = {
    "env": ("tabletop", "environment to simulate"),
    "task": ("all", "one task family, or all"),
    "seed": ("0", "scene"),
    "lockstep": ("false", "time waits for commands: the same episode on any machine"),
    "policy": ("tabletop", "a shipped name, a folder or a hub id"),
    "gate": ("true", "the safety gate is in the path"),
    "patience": ("30.0", "seconds to wait for a stream"),
}


def generate_launch_description() -> LaunchDescription:
    config = PathJoinSubstitution([FindPackageShare("vla_ros"), "config"])
    sim = Node(
        package="vla_ros",
        executable="sim",
        name="sim",
        output="screen",
        parameters=[
            PathJoinSubstitution([config, "sim.yaml"]),
            {
                "env": given("env"),
                "task": given("task"),
                "seed": given("seed", int),
                "lockstep": given("lockstep", bool),
            },
        ],
    )
    policy = LifecycleNode(
        package="vla_ros",
        executable="policy",
        name="policy",
        namespace="",
        output="screen",
        parameters=[
            PathJoinSubstitution([config, "policy.yaml"]),
            {
                "policy": given("policy"),
                "gate": given("gate", bool),
                "patience": given("patience", float),
                "use_sim_time": True,
            },
        ],
    )
    return LaunchDescription([*declare(ARGUMENTS), sim, *activated(policy)])
