"""The lifecycle node `recorder`: what happens on the topics of a spec while it is active, as a LeRobot dataset.

Messages go through the code that imports bags, so a dataset is the same as that of a bag of the same messages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from vla.data.rosbag2.frames import Framer
from vla.errors import UserError
from vla.spec import RobotSpec
from vla.streams import extra, sources
from vla_ros.episode_writer import EpisodeWriter, check_out, check_task
from vla_ros.parameters import RecorderParameters, declare, read, robot_spec
from vla_ros.ros_bus import RosBus
from vla_ros.running import run

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class RecorderNode(LifecycleNode):
    """configure checks where the dataset goes and who says what is done, activate listens, deactivate writes what is
    left and closes it.
    """

    def __init__(self) -> None:
        super().__init__("recorder")
        declare(self, RecorderParameters)
        self._session: Session | None = None

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        given = self._given = read(self, RecorderParameters)
        try:
            self._spec = robot_spec(given.spec, bool(self.get_parameter("use_sim_time").value))
            check_out(given.out, self._spec)
            check_task(given.task, self._spec)
        except UserError as error:
            self.get_logger().error(str(error))
            return FAILURE
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._session = Session(self, self._spec, Path(self._given.out).expanduser(), self._given.task)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if not self.close():
            return FAILURE
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.on_cleanup(state)

    def close(self) -> bool:
        """Whether all that was to be recorded has been."""
        session, self._session = self._session, None
        if session is None:
            return True
        for line in session.close():
            self.get_logger().info(line)
        return not session.failed


class Session:
    """Listens until `close`, and writes frames in a thread of its own as they come."""

    def __init__(self, node: LifecycleNode, spec: RobotSpec, out: Path, task: str) -> None:
        self._out = out
        self._framer = Framer(spec, task)
        self._writer = EpisodeWriter(out, spec, node.get_logger().error)
        self._bus = RosBus(node)
        streams = [part.stream for kind in ("camera", "state", "action") for part in sources(spec, kind)]
        streams += [stream for name in ("clock", "instruction", "outcome") if (stream := extra(spec, name))]
        for stream in {stream.topic: stream for stream in streams}.values():
            self._bus.subscribe(stream.topic, stream.type, stream.qos, self._receive(stream.topic), depth=100)
        self._bus.start()

    def close(self) -> list[str]:
        """Writes what is left; returns what to tell."""
        self._bus.close()
        with self._bus.changed:
            self._writer.offer(self._framer.end())
        self._writer.close()
        counts = f"{self._writer.count} episodes, {self._writer.frames} frames in {self._out}"
        return [counts, *self._framer.report.lines()]

    @property
    def failed(self) -> str:
        """Why not all could be written; "" if it could, which is certain after `close`."""
        return self._writer.failed

    def _receive(self, topic: str) -> Any:
        return lambda message, received: self._writer.offer(self._framer.add(topic, received, message))


def main() -> None:
    run(RecorderNode)


if __name__ == "__main__":
    main()
