"""The lifecycle node `recorder`: what happens on the topics of a spec while it is active, as a LeRobot dataset.

Messages go through the code that imports bags, so a dataset is the same as that of a bag of the same messages.
"""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from vla import assets
from vla.data.episode import Episode
from vla.data.rosbag2.frames import Framer, stamp_columns
from vla.errors import UserError
from vla.spec import RobotSpec
from vla.streams import extra, sources
from vla_ros.parameters import RecorderParameters, declare, read, robot_spec
from vla_ros.ros_bus import RosBus
from vla_ros.running import run

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class RecorderNode(LifecycleNode):
    """configure checks where the dataset goes, activate listens, deactivate writes what is left and closes it."""

    def __init__(self) -> None:
        super().__init__("recorder")
        declare(self, RecorderParameters)
        self._session: Session | None = None

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        given = self._given = read(self, RecorderParameters)
        try:
            self._spec = robot_spec(given.spec, bool(self.get_parameter("use_sim_time").value))
            check_out(given.out, self._spec)
        except UserError as error:
            self.get_logger().error(str(error))
            return FAILURE
        return SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._session = Session(self, self._spec, Path(self._given.out).expanduser(), self._given.task)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.on_cleanup(state)

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            for line in session.close():
                self.get_logger().info(line)


class Session:
    """Listens until `close`, and writes episodes in a thread of its own as they end."""

    def __init__(self, node: LifecycleNode, spec: RobotSpec, out: Path, task: str) -> None:
        self._node, self._spec, self._out = node, spec, out
        self._framer = Framer(spec, task)
        self._episodes: queue.SimpleQueue[Episode | None] = queue.SimpleQueue()
        self._count = self._frames = 0
        self._writer = threading.Thread(target=self._write, name="recorder")
        self._writer.start()
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
            self._offer(self._framer.end())
        self._episodes.put(None)
        self._writer.join()
        return [f"{self._count} episodes, {self._frames} frames in {self._out}", *self._framer.report.lines()]

    def _receive(self, topic: str) -> Any:
        return lambda message, received: self._offer(self._framer.add(topic, received, message))

    def _offer(self, episodes: list[Episode]) -> None:
        for episode in episodes:
            self._episodes.put(episode)

    def _write(self) -> None:
        recorder = None
        while (episode := self._episodes.get()) is not None:
            if not episode.task:
                self._node.get_logger().warning("an episode without words is left out: set the parameter task")
                continue
            try:
                if recorder is None:
                    from vla.data.recorder import EpisodeRecorder  # seconds of importing

                    columns = stamp_columns(self._spec)
                    recorder = EpisodeRecorder(self._out, self._spec, labels=False, extra=columns)
                recorder.write(episode)
            except OSError as error:
                self._node.get_logger().error(f"an episode is lost: {error}")
                continue
            self._count, self._frames = self._count + 1, self._frames + len(episode.frames)
        if recorder is not None:
            recorder.close()


def check_out(out: str, spec: RobotSpec) -> None:
    """UserError unless a dataset of this robot is or can be at `out`."""
    if not out:
        raise UserError("recorder: set the parameter out: the folder of the dataset")
    folder = Path(out).expanduser()
    assets.check_folder_writable(folder.parent, "recorder")
    if not folder.exists():
        return
    mine = folder / "meta" / "robot_spec.yaml"
    if not mine.exists():
        raise UserError(f"recorder: {folder} is there and is no dataset of ours; choose another out")
    if differing := spec.diff(RobotSpec.load(mine), "this dataset"):
        raise UserError(f"recorder: {folder} is of another robot: {'; '.join(differing)}")


def main() -> None:
    run(RecorderNode)


if __name__ == "__main__":
    main()
