"""A robot whose time waits for commands: whatever is lost or begun anew on the way, nobody waits for ever."""

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from sim_process import sim_process

from vla import assets
from vla.robots.dds import DdsRobot, Interrupted
from vla.robots.dds_bus import Bus
from vla.robots.dds_sim import SimNode
from vla.robots.gym_sim import make_robot
from vla.ros_types import MessageTypes
from vla.spec import RobotSpec
from vla.streams import extra, sources

SPEC = RobotSpec.load(assets.find("robot", "tabletop"))
TYPES = MessageTypes()
PATIENCE = 300.0  # seconds; a machine may be busy
STAY = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)


def test_an_episode_that_somebody_else_begins_anew_is_gone_on_with(domain: int) -> None:
    with sim_process(domain, "--lockstep"), DdsRobot(SPEC, domain, PATIENCE) as robot:
        robot.reset(3)
        robot.command(STAY)
        reset = extra(SPEC, "reset")
        other = Bus(TYPES, domain)
        asking = other.advertise(reset.topic, reset.type, "reliable")
        assert other.wait(lambda: bool(asking.readers), PATIENCE)
        asking.publish(TYPES.new(reset.type, data=4))
        assert robot._bus and robot._bus.wait(lambda: robot.outcome.seed == 4, PATIENCE)
        for _ in range(3):
            robot.command(STAY)
            robot.observe()
        assert robot.outcome.seed == 4 and any("begun anew" in event for event in robot.events)
        other.close()


def test_a_scene_that_is_asked_for_again_is_asked_for_in_its_own_words(domain: int) -> None:
    with sim_process(domain, "--lockstep"), DdsRobot(SPEC, domain, PATIENCE) as robot, make_robot("tabletop") as here:
        robot.reset(3)
        here.reset(3)
        robot.set_instruction(next(one.text for one in here.instructions() if one.text != here.instruction))
        robot.reset(3)
        assert robot.instruction == here.instruction


def test_a_command_that_is_lost_is_sent_again(domain: int) -> None:
    with deaf_robot(domain, lost=1) as heard, DdsRobot(SPEC, domain, PATIENCE) as robot:
        robot.reset(3)
        robot.command(STAY)
        assert heard() == 2 and robot.events == ["control step 1 was asked for again"]


def test_whoever_waits_for_a_robot_can_be_interrupted_and_go_on(domain: int) -> None:
    with deaf_robot(domain, lost=10**9), DdsRobot(SPEC, domain, PATIENCE) as robot:
        robot.reset(3)
        begin = time.monotonic()
        threading.Timer(0.2, robot.interrupt).start()
        with pytest.raises(Interrupted):
            robot.command(STAY)
        assert time.monotonic() - begin < PATIENCE / 2
        with pytest.raises(Interrupted):
            robot.reset(4)
        robot.resume()
        robot.observe()


@contextmanager
def deaf_robot(domain: int, lost: int):
    """A simulated robot that does not get the first `lost` commands; yields how many twists were sent to it."""
    bus, heard = Bus(TYPES, domain), [0]
    subscribe = bus.subscribe

    def losing(topic, ros_type, qos, handler, depth=None):
        def lose(message, received):
            heard[0] += topic == COMMANDS[0]
            if topic not in COMMANDS or seen[topic] >= lost:
                handler(message, received)
            seen[topic] = seen.get(topic, 0) + 1

        seen[topic] = 0
        subscribe(topic, ros_type, qos, lose, depth)

    seen: dict[str, int] = {}
    stopped = threading.Event()

    def run() -> None:
        with make_robot("tabletop", render=False) as robot:
            bus.subscribe = losing  # the wire to this robot, not the robot
            SimNode(bus, robot, SPEC, lockstep=True).run(0, stopped.is_set)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield lambda: heard[0]
    finally:
        stopped.set()
        thread.join()
        bus.close()


COMMANDS = list(dict.fromkeys(part.stream.topic for part in sources(SPEC, "action")))
