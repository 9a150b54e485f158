"""A robot of two joints and a camera that gets something wrong, on any message bus, and what is to come of that."""

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vla import assets
from vla.errors import UserError
from vla.messages import SECOND, write_picture
from vla.robots.base import SensesLost
from vla.robots.dds import DdsRobot
from vla.robots.message_bus import MessageBus
from vla.ros_types import MessageTypes
from vla.spec import RobotSpec

TYPES = MessageTypes()
ROS = [
    {"stream": "front", "topic": "/front", "type": "sensor_msgs/msg/Image"},
    {"stream": "state", "topic": "/joint_states", "type": "sensor_msgs/msg/JointState", "fields": ["a", "b"]},
    {
        "stream": "action",
        "topic": "/arm_controller/joint_trajectory",
        "type": "trajectory_msgs/msg/JointTrajectory",
        "fields": ["a", "b"],
        "qos": "reliable",
    },
]
FAKE = RobotSpec.from_dict(
    {
        "name": "two_joints",
        "rate_hz": 20,
        "cameras": [{"name": "front", "height": 8, "width": 16}],
        "state": [{"name": "joints", "size": 2, "unit": "rad"}],
        "action": {"mode": "joint_position", "fields": [{"name": "joints", "size": 2, "unit": "rad"}]},
        "ros": ROS,
    }
)


TABLETOP = RobotSpec.load(assets.find("robot", "tabletop"))
HOME = [0.0, -0.35, 0.0, -2.45, 0.0, 2.1, 0.78]
_ARM = {
    **FAKE.to_dict(),
    "name": "arm",
    "state": [{"name": "joint_position", "size": 7, "unit": "rad"}],
    "action": {"mode": "joint_position", "fields": [{"name": "joint_position", "size": 7, "unit": "rad"}]},
    "ros": [stream | {"fields": TABLETOP.kinematics.joints} if "fields" in stream else stream for stream in ROS],
}
ARM = replace(RobotSpec.from_dict(_ARM), kinematics=TABLETOP.kinematics, limits=TABLETOP.limits)
"""The tabletop's arm, on the topics of the fake one: the safety gate knows its limits."""


class FakeRobot:
    """Speaks as a robot's drivers would, on the wall's clock; `fault` is what it gets wrong.

    position: rad, where somebody has moved it; commands do not.
    """

    def __init__(self, bus: MessageBus, fault: str = "", spec: RobotSpec = FAKE) -> None:
        self.bus, self.fault, self.spec, self.commands = bus, fault, spec, []
        self.position = [1.0, 2.0] if spec == FAKE else HOME
        camera, joints, action = spec.ros
        self.front = self.bus.advertise(camera.topic, camera.type, "sensor")
        kind = "std_msgs/msg/String" if fault == "type" else joints.type
        self.joints = self.bus.advertise(joints.topic, kind, "sensor")
        qos = "transient_local" if fault == "demanding" else "reliable"
        self.bus.subscribe(action.topic, action.type, qos, lambda message, _: self.commands.append(message))
        self.bus.start()
        self._stopped = threading.Event()

    @contextmanager
    def speaking(self):
        thread = threading.Thread(target=self._speak)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()

    def close(self) -> None:
        self.bus.close()

    def _speak(self) -> None:
        while not self._stopped.wait(0.02):
            if self.fault == "silent":
                continue
            now = time.time_ns()
            camera = replace(FAKE.cameras[0], height=32, width=32) if self.fault == "size" else FAKE.cameras[0]
            picture = np.zeros((camera.height, camera.width, 3), np.uint8)
            message = write_picture(TYPES, FAKE.ros[0], camera, picture, now)
            if self.fault == "encoding":
                message.encoding = "yuv422"
            self.front.publish(message)
            self.joints.publish(self._joint_state(now))

    def _joint_state(self, now: int):
        if self.fault == "type":
            return TYPES.new("std_msgs/msg/String", data="a")
        names, values = {
            "missing": (["a"], [1]),
            "nan": (["a", "b"], [1, np.nan]),
            "reordered": (["b", "c", "a"], [2, 3, 1]),
        }.get(self.fault, (self.spec.ros[1].fields, self.position))
        message = TYPES.new("sensor_msgs/msg/JointState", name=list(names), position=np.array(values, np.float64))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, SECOND)
        return message


class TurningPolicy:
    """Wants the first joint `by` rad from where it is."""

    class config:
        replan_steps = 5

    def __init__(self, spec: RobotSpec, by: float) -> None:
        self.spec, self.by, self.spoke = spec, by, False

    def think(self, images, instruction, stamp, instruction_id=0, words=False):
        import torch

        from vla.s2.thought import Thought

        self.spoke |= words
        return Thought(torch.zeros(1, 1), stamp, instruction_id, "turn" if words else None)

    def act(self, images, state, thought, now, prefix):
        return np.tile(state + np.eye(len(state), dtype=np.float32)[0] * self.by, (10, 1))


class HungPolicy(TurningPolicy):
    """Never ends a thought until it is `over`; can be served."""

    class config:
        replan_steps = 5
        fast = SimpleNamespace(horizon=10, max_age=2.0)

    s1 = SimpleNamespace(config=SimpleNamespace(cameras=("front",)), latent_shape=(1, 1), state_dict=dict)
    s2 = SimpleNamespace(config=SimpleNamespace(cameras=("front",)))

    def __init__(self, spec: RobotSpec, by: float) -> None:
        super().__init__(spec, by)
        self.over = threading.Event()

    def think(self, images, instruction, stamp, instruction_id=0, words=False):
        self.over.wait()
        return super().think(images, instruction, stamp, instruction_id, words)


class ListeningPolicy:
    """Keeps the tabletop's arm still, and notes what it is told."""

    spec = TABLETOP

    class config:
        replan_steps = 5

    def __init__(self) -> None:
        self.told = []

    def think(self, images, instruction, stamp, instruction_id=0, words=False):
        import torch

        from vla.s2.thought import Thought

        self.told.append(instruction)
        return Thought(torch.zeros(1, 1), stamp, instruction_id)

    def act(self, images, state, thought, now, prefix):
        return np.tile(np.array([0, 0, 0, 0, 0, 0, 1], np.float32), (10, 1))


Make = Callable[[float, RobotSpec], DdsRobot]
"""A robot that waits so many seconds for what does not come."""

FAULTS = [
    ("size", "front: nothing has come on /front; a message on /front is 32x32, the spec says 16x8"),
    ("encoding", "a message on /front its encoding is 'yuv422'"),
    ("nan", "state: nothing has come on /joint_states; a message on /joint_states b is not a finite number"),
    ("missing", "a message on /joint_states b missing"),
    ("type", "/joint_states: is published as std_msgs/msg/String, the spec says sensor_msgs/msg/JointState"),
    ("qos", "/joint_states: incompatible QoS, durability: a publisher offers less"),
    ("demanding", "/arm_controller/joint_trajectory: incompatible QoS, durability: a subscriber asks for more"),
]
PASSING = ["size", "encoding", "nan", "missing", "silent"]
"""What a robot may do for a while, and then be right again."""


def check_named(make: Make, fake: FakeRobot, words: str) -> None:
    spec = FAKE
    if fake.fault == "qos":
        spec = replace(FAKE, ros=(FAKE.ros[0], replace(FAKE.ros[1], qos="transient_local"), FAKE.ros[2]))
    with fake.speaking():
        for patience in (2, 10, 50, 250):  # the first serves unless the machine is busy
            with pytest.raises(UserError) as error:
                make(patience, spec).connect()
            if words in str(error.value):
                break
    fake.close()
    assert words in str(error.value)


def check_recovered(make: Make, fake: FakeRobot, fault: str) -> None:
    """In the middle of a run: the robot is told to hold, the fault is named, and afterwards it is gone on with."""
    with fake.speaking(), make(300, FAKE) as robot:
        robot.command(np.array([0.5, -0.5], np.float32))
        fake.fault, robot.patience = fault, 1.0
        with pytest.raises(SensesLost) as lost:
            while True:
                robot.observe()
        assert dict(FAULTS).get(fault, "s old, over 0.5 s").split("; ")[-1] in str(lost.value)
        fake.fault, robot.patience = "", 300
        assert robot.observe().state.tolist() == [1, 2]
        robot.command(np.array([0.5, -0.5], np.float32))
        assert fake.bus.wait(lambda: len(fake.commands) >= 3, 300)
    for command in fake.commands:  # holding is to stay where it was last told to be
        np.testing.assert_allclose(command.points[0].positions, [0.5, -0.5])
    fake.close()
