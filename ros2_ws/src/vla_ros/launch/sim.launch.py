"""A simulated robot, and the policy that drives it, active when both are there:

ros2 launch vla_ros sim.launch.py seed:=7
ros2 action send_goal --feedback /policy/run_instruction vla_interfaces/action/RunInstruction "{}"
"""

from launch import LaunchDescription
from launch_ros.actions import Node

from vla_ros.launching import POLICY, config, declare, given, policy_node

ARGUMENTS = {
    **POLICY,
    "params_file": (config("sim_policy.yaml"), POLICY["params_file"][1]),
    "env": ("tabletop", "environment to simulate"),
    "task": ("all", "one task family, or all"),
    "seed": ("0", "scene"),
    "lockstep": ("false", "time waits for commands: the same episode on any machine"),
    "use_sim_time": ("true", "whether the policy follows /clock, as it must here"),
}


def generate_launch_description() -> LaunchDescription:
    scene = {
        "env": given("env"),
        "task": given("task"),
        "seed": given("seed", int),
        "lockstep": given("lockstep", bool),
    }
    sim = Node(package="vla_ros", executable="sim", name="sim", output="screen", parameters=[config("sim.yaml"), scene])
    return LaunchDescription([*declare(ARGUMENTS), sim, policy_node()])
