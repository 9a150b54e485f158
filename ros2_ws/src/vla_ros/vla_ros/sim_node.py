"""The node `sim`: a MuJoCo environment as a ROS 2 robot, on the topics of its spec, with CameraInfo and tf."""

from __future__ import annotations

import threading
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from std_srvs.srv import Trigger

from vla.errors import UserError
from vla.robots.dds_sim import SimNode as Simulation
from vla.robots.gym_sim import make_robot
from vla.robots.sim_frames import SimFrames, has_frames
from vla_ros.parameters import SimParameters, declare, read, robot_spec, sim_spec_name
from vla_ros.ros_bus import RosBus
from vla_ros.running import run

PATIENCE_S = 30.0


class SimNode(Node):
    """`simulate` steps and renders in the calling thread: a GL context belongs to one."""

    def __init__(self) -> None:
        super().__init__("sim")
        declare(self, SimParameters)
        self._simulation: Simulation | None = None
        self._bus = RosBus(self)
        group = MutuallyExclusiveCallbackGroup()
        self.create_service(Trigger, "~/reset", self._reset, callback_group=group)

    def simulate(self, ended: threading.Event) -> None:
        """Until `ended`. UserError for parameters that name nothing."""
        given = read(self, SimParameters)
        if given.seed < 0:
            raise UserError(f"sim: seed is {given.seed}: give a number that is not negative")
        name = sim_spec_name(given)
        spec = robot_spec(name, False)
        with make_robot(given.env, given.task) as robot:
            if differing := spec.diff(robot.spec, given.env):
                raise UserError(f"sim: {name} is not the spec of the robot in {given.env}: {'; '.join(differing)}")
            frames = SimFrames(self._bus, robot.environment, spec) if has_frames(robot.environment) else None
            beside = {"beside": frames.publish} if frames else {}
            self._simulation = Simulation(self._bus, robot, spec, given.lockstep, **beside)
            pace = "lockstep: time waits for commands" if given.lockstep else f"real time, {spec.rate_hz:g} Hz"
            self.get_logger().info(f"{given.env}, {pace}")
            self._simulation.run(given.seed, ended.is_set)

    def close(self) -> None:
        self._bus.close()

    def _reset(self, _: Any, response: Any) -> Any:
        simulation = self._simulation
        if simulation is None:
            response.message = "the simulation is not running yet"
            return response
        before = simulation.outcome.began
        simulation.begin_again()
        response.success = self._bus.wait(lambda: simulation.outcome.began != before, PATIENCE_S)
        response.message = simulation.outcome.instruction if response.success else "the simulation does not answer"
        return response


def main() -> None:
    run(SimNode, SimNode.simulate)


if __name__ == "__main__":
    main()
