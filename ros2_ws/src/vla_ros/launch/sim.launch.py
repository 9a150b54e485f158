"""A simulated robot and the policy that drives it, active when the launch has settled:

ros2 launch vla_ros sim.launch.py seed:=7
ros2 action send_goal --feedback /policy/run_instruction vla_interfaces/action/RunInstruction "{}"
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

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
    def given(name: str, kind: type = str) -> ParameterValue:
        return ParameterValue(LaunchConfiguration(name), value_type=kind)

    config = FindPackageShare("vla_ros")
    sim = Node(
        package="vla_ros",
        executable="sim",
        name="sim",
        output="screen",
        parameters=[
            [config, "/config/sim.yaml"],
            {"env": given("env"), "task": given("task"), "seed": given("seed", int), "lockstep": given("lockstep", bool)},
        ],
    )
    policy = LifecycleNode(
        package="vla_ros",
        executable="policy",
        name="policy",
        namespace="",
        output="screen",
        autostart=True,
        parameters=[
            [config, "/config/policy.yaml"],
            {
                "policy": given("policy"),
                "gate": given("gate", bool),
                "patience": given("patience", float),
                "use_sim_time": True,
            },
        ],
    )
    declared = [DeclareLaunchArgument(name, default_value=value, description=about) for name, (value, about) in ARGUMENTS.items()]
    return LaunchDescription([*declared, sim, policy])
