"""Programs on a ROS graph, and somebody else on it who watches and asks."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.action import ActionClient
from rclpy.node import Node, NodeNameNonExistentError
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger
from vla_interfaces.action import RunInstruction

PATIENCE = 300.0  # seconds; a machine may be busy
TWISTS = "/servo_node/delta_twist_cmds"
USUAL = {"/rosout", "/parameter_events"}

RUNNING: set["Program"] = set()
"""Programs that nobody has stopped: waiting ends when one of them dies."""


class Program:
    """A node in a process of its own. `lines`: what it has printed."""

    def __init__(self, command: list[str]) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=hear_sigint,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        RUNNING.add(self)

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def stop(self, how: int = signal.SIGINT) -> int:
        RUNNING.discard(self)
        if self.process.poll() is None:
            os.killpg(self.process.pid, how)
        code = self.process.wait(PATIENCE)
        self._reader.join(10)
        return code


def hear_sigint() -> None:
    """A shell has what it starts in the background ignore SIGINT, and so do the tests' own children then."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def program(node: str, **parameters: Any) -> Iterator[Program]:
    given = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    one = Program([sys.executable, "-m", f"vla_ros.{node}_node", "--ros-args", *given])
    try:
        yield one
    finally:
        one.stop(signal.SIGKILL)


class Client(Node):
    """Somebody else on the same ROS graph."""

    def __init__(self) -> None:
        super().__init__("somebody")
        self.clock = 0
        self.twists: list[tuple[int, float]] = []
        self.diagnostics: list[Any] = []
        self.heard: dict[str, Any] = {}
        self.create_subscription(Clock, "/clock", self._on_clock, 10)
        self.create_subscription(TwistStamped, TWISTS, self._on_twist, 100)
        self.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)
        self.goals = ActionClient(self, RunInstruction, "/policy/run_instruction")
        self.feedback: list[Any] = []

    def _on_clock(self, message: Clock) -> None:
        self.clock = message.clock.sec * 10**9 + message.clock.nanosec

    def _on_twist(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        size = max(abs(getattr(part, axis)) for part in (linear, angular) for axis in "xyz")
        self.twists.append((self.clock, size))

    def listen(self, kind: Any, topic: str, qos: Any = 10) -> None:
        self.create_subscription(kind, topic, lambda message: self.heard.setdefault(topic, message), qos)

    def until(self, ready: Callable[[], Any], what: str = "it") -> None:
        deadline = time.monotonic() + PATIENCE
        while not ready():
            dead = [one.lines for one in RUNNING if one.process.poll() is not None]
            assert not dead, dead
            assert time.monotonic() < deadline, f"{what} did not happen"
            time.sleep(0.02)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.create_client(kind, name)
        self.until(client.service_is_ready, f"the service {name}")
        future = client.call_async(request)
        self.until(future.done, f"an answer of {name}")
        self.destroy_client(client)
        return future.result()

    def change(self, node: str, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self.call(ChangeState, f"/{node}/change_state", request).success)

    def trigger(self, name: str) -> Any:
        return self.call(Trigger, name, Trigger.Request())

    def send(self, instruction: str = "", time_limit: float = 0.0) -> Any:
        self.until(self.goals.server_is_ready, "the action server")
        goal = RunInstruction.Goal(instruction=instruction, time_limit=time_limit)
        future = self.goals.send_goal_async(goal, feedback_callback=lambda m: self.feedback.append(m.feedback))
        self.until(future.done, "an answer to the goal")
        return future.result()

    def result(self, handle: Any) -> Any:
        future = handle.get_result_async()
        self.until(future.done, "a result")
        return future.result()

    def publishers_of(self, node: str) -> set[str]:
        """Topics that a node publishes, but for what every lifecycle node does."""
        try:
            found = {topic for topic, _ in self.get_publisher_names_and_types_by_node(node, "/")}
        except NodeNameNonExistentError:
            return set()
        return {topic for topic in found if "transition_event" not in topic and "/_action/" not in topic} - USUAL
