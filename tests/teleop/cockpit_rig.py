"""A cockpit on the simulated tabletop, beside the test."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vla.data.live import LiveRecorder, LiveSettings
from vla.robots.gym_sim import make_robot
from vla.serve.background import beside
from vla.teleop.cockpit import Cockpit, WebDevice
from vla.teleop.command import about_robot
from vla.teleop.control import SessionSettings
from vla.teleop.pictures import CameraPictures, TwinPictures
from vla.teleop.session import Session


@dataclass(frozen=True)
class Rig:
    cockpit: Cockpit
    session: Session
    recorder: LiveRecorder
    device: WebDevice

    @property
    def live_url(self) -> str:
        return self.cockpit.url.replace("http", "ws", 1).replace("/?", "/live?")


@contextmanager
def rig(out: Path, heartbeat_s: float, policy=None, render: bool = False, large: bool = False) -> Iterator[Rig]:
    robot = make_robot("tabletop", render=render)
    spec = robot.spec
    robot.close()
    live = LiveSettings("operator", "web", preroll_s=0.2, reserve=0)
    with LiveRecorder(out, spec, live) as recorder:
        device, pictures = WebDevice(), TwinPictures("tabletop") if large else CameraPictures()
        settings = SessionSettings(heartbeat_s=heartbeat_s, policy_name="tabletop" if policy else "")
        session = Session(
            lambda: make_robot("tabletop", render=render), device, recorder, policy, settings, pictures.offer
        )
        session.start()
        try:
            about = {**about_robot(spec), "has_policy": policy is not None}
            cockpit = Cockpit(session, recorder, device, pictures, about=about)
            with beside(cockpit.serve):
                yield Rig(cockpit, session, recorder, device)
        finally:
            session.close()
            pictures.close()
