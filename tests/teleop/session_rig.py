"""A live session with a hand that does as the test says, and without a page."""

import threading
import time
from contextlib import contextmanager

import numpy as np

from vla.data.live import LiveRecorder, LiveSettings
from vla.robots.gym_sim import make_robot
from vla.teleop.control import SessionSettings
from vla.teleop.devices import Reading
from vla.teleop.session import Session

PATIENCE_S = 300


class ScriptedHand:
    """An operator who is there until told otherwise."""

    name = "script"

    def __init__(self) -> None:
        self.move, self.clutch, self.present, self.gripper = np.zeros(6), False, True, 1.0

    def read(self) -> Reading | None:
        return Reading(self.move, self.gripper, self.clutch, time.monotonic()) if self.present else None

    def close(self) -> None:
        pass


class PushingPolicy:
    """Thinks nothing and pushes the tool to the left at 0.1 m/s."""

    class config:
        replan_steps = 5

    def __init__(self, spec) -> None:
        self.spec = spec
        self.broken, self.wanders = threading.Event(), threading.Event()

    def think(self, images, instruction, stamp, instruction_id=0, words=False):
        import torch

        from vla.s2.thought import Thought

        return Thought(torch.zeros(1, 1), stamp, instruction_id, f"I see: {instruction}" if words else None)

    def act(self, images, state, thought, now, prefix):
        if self.broken.is_set():
            raise ValueError("out of order")
        left = np.nan if self.wanders.is_set() else 0.005
        return np.tile(np.array([0, left, 0, 0, 0, 0, 1], np.float32), (10, 1))


@contextmanager
def session(folder, policy=None, seed=0, preroll_s=0.0):
    robot = make_robot("tabletop", render=False)
    with session_with(lambda: robot, robot.spec, folder, policy, preroll_s=preroll_s, seed=seed) as parts:
        yield parts


@contextmanager
def session_with(make, spec, folder, policy=None, device=None, preroll_s=0.0, **settings):
    """A session with the robot that `make` gives; policy: given the spec, makes one. device: instead of a script."""
    hand = device or ScriptedHand()
    live = LiveSettings("operator", "script", preroll_s, reserve=0)
    with LiveRecorder(folder / "data", spec, live) as recorder:
        made = policy(spec) if policy else None
        how = SessionSettings(heartbeat_s=5.0, policy_name="pushing", **settings)
        live_session = Session(make, hand, recorder, made, how)
        live_session.start()
        try:
            yield live_session, hand, recorder
        finally:
            live_session.close()


def wait_for(session, condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition(session.moment()):
        assert time.monotonic() < deadline, f"{what}: {session.moment().notes}"
        assert session.alive, session.error
        time.sleep(0.01)


def take_hold(session, hand, move=(0, 1.0, 0, 0, 0, 0)):
    hand.clutch = False
    before = session.moment().step
    wait_for(session, lambda now: now.step > before + 2, "letting go is seen")
    hand.clutch, hand.move = True, np.array(move)
    wait_for(session, lambda now: now.engaged, "the clutch engages")


def moved(session, since, axis=1, by=0.01):
    wait_for(session, lambda now: abs(now.tool[axis] - since[axis]) > by, "the arm moves")


def rests(session):
    wait_for(session, lambda now: now.at_rest, "the arm rests")
    here = session.moment().tool
    before = session.moment().step
    wait_for(session, lambda now: now.step > before + 3, "time passes")
    assert np.abs(session.moment().tool - here).max() < 1e-6
