"""What the policy node says of itself while it is active: diagnostics once a second, and S2's latents."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.time import Time
from vla_interfaces.msg import Latents

from vla.evaluation.robot_episode import Episode, Progress
from vla.robots.dds import DdsRobot
from vla_ros.parameters import PolicyParameters

EVERY_S = 1.0


class Reporter:
    """Its publishers exist from here to `close`."""

    def __init__(self, node: LifecycleNode, robot: DdsRobot, given: PolicyParameters) -> None:
        self._node, self._robot, self._given = node, robot, given
        self._newest: tuple[Episode, Progress] | None = None
        self._thought: Any = None
        self._sequence = 0
        self._lock, self._closed = threading.Lock(), False
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._latents = node.create_publisher(Latents, "~/latents", 1) if given.latents else None
        # On the wall's clock: a simulated one may stand still.
        self._timer = node.create_timer(
            EVERY_S,
            self._report,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def close(self) -> None:
        """The robot is not asked and nothing is published any more, also by a report that is due."""
        with self._lock:
            self._closed = True
            self._node.destroy_timer(self._timer)
            for publisher in (self._diagnostics, self._latents):
                if publisher is not None:
                    self._node.destroy_publisher(publisher)

    def note(self, episode: Episode, progress: Progress) -> None:
        """After every control step."""
        self._newest = episode, progress
        thought = progress.thought
        if self._latents is None or thought is None or thought is self._thought:
            return
        if self._lock.acquire(blocking=False):  # the control loop does not wait for a report
            try:
                self._tell(thought, progress.age_s or 0.0)
            finally:
                self._lock.release()

    def _tell(self, thought: Any, age: float) -> None:
        if not self._closed and self._latents is not None:
            self._thought = thought
            self._latents.publish(self._message(thought, age))

    def _message(self, thought: Any, age: float) -> Latents:
        values = np.asarray(thought.latents, np.float32)
        captured = self._node.get_clock().now().nanoseconds - round(age * 1e9)
        self._sequence += 1
        return Latents(
            stamp=Time(nanoseconds=max(0, captured)).to_msg(),
            model_id=self._given.policy,
            instruction_id=thought.instruction_id,
            sequence=self._sequence,
            shape=list(values.shape),
            data=values.reshape(-1).tolist(),
        )

    def _report(self) -> None:
        with self._lock:
            if self._closed:
                return
            array = DiagnosticArray(status=[self._streams(), self._control()])
            array.header.stamp = self._node.get_clock().now().to_msg()
            self._diagnostics.publish(array)

    def _streams(self) -> DiagnosticStatus:
        ages, complaints = self._robot.stream_ages(), self._robot.complaints()
        limits = {stream.stream: stream.max_age for stream in self._robot.spec.ros}
        stale = [name for name, age in ages.items() if not age <= limits[name]]
        words = [*(f"{name} is stale" for name in stale), *complaints]
        level = DiagnosticStatus.ERROR if stale else DiagnosticStatus.WARN if complaints else DiagnosticStatus.OK
        values = {f"{name} age (s)": "none" if math.isinf(age) else f"{age:.3f}" for name, age in ages.items()}
        return self._status("streams", level, "; ".join(words) or "fresh", values)

    def _control(self) -> DiagnosticStatus:
        if self._newest is None:
            return self._status("control", DiagnosticStatus.OK, "idle", {})
        episode, progress = self._newest
        age = "none" if progress.age_s is None else f"{progress.age_s:.3f}"
        values = {
            "steps": str(progress.steps),
            "late": str(self._robot.late),
            "S1 (ms)": f"{progress.s1_ms:.1f}",
            "S2 age (s)": age,
            **{f"count {name}": str(count) for name, count in episode.counts.items()},
        }
        held = DiagnosticStatus.WARN if progress.held else DiagnosticStatus.OK
        return self._status("control", held, "holding" if progress.held else "acting", values)

    def _status(self, part: str, level: bytes, message: str, values: dict[str, str]) -> DiagnosticStatus:
        name = f"{self._node.get_name()}: {part}"
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        return DiagnosticStatus(
            level=level, name=name, message=message, hardware_id=self._robot.spec.name, values=pairs
        )
