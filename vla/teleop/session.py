"""The live session: a control loop in a thread of its own, which waits for no people, no disk and no model."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable
from typing import Any

from vla.data.live import LiveRecorder
from vla.errors import UserError
from vla.processes import real_time, settle
from vla.robots.base import Robot
from vla.runtime.clock import Beat
from vla.runtime.loop import Policy
from vla.runtime.threaded_pilot import ThreadedPilot
from vla.teleop.control import WISHES, LiveLoop, SessionSettings
from vla.teleop.devices import Device
from vla.teleop.moment import Moment


class Session:
    """make_robot: gives a connected robot; called in the session's thread, which alone touches it.

    `start` returns when the robot is under control, or raises what hindered it. `ask` takes the operator's wishes.
    on_step: called in the loop's thread with the robot after each step; must be quick.
    """

    def __init__(
        self,
        make_robot: Callable[[], Robot],
        device: Device,
        recorder: LiveRecorder,
        policy: Policy | None = None,
        settings: SessionSettings | None = None,
        on_step: Callable[[Robot, Moment], None] | None = None,
    ) -> None:
        self._make_robot, self._device, self._recorder = make_robot, device, recorder
        self._policy, self._settings, self._on_step = policy, settings or SessionSettings(), on_step
        self._wishes: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._ending, self._ready = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="vla-teleop", daemon=True)
        self._moment: Moment | None = None
        self.error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Bring the robot to rest and end; may be called twice."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def moment(self) -> Moment:
        if self._moment is None:
            raise RuntimeError("start the session first")
        return self._moment

    def ask(self, what: str, value: Any = None) -> None:
        """One of `WISHES`; ValueError for anything else. Carried out at the next control step."""
        if what not in WISHES:
            raise ValueError(f"unknown wish {what!r}")
        self._wishes.put((what, value))

    def _run(self) -> None:
        robot, pilot = None, None
        try:
            robot = self._make_robot()
            if self._policy is not None:
                pilot = ThreadedPilot(self._policy, robot.spec)
            beat = Beat(robot.spec.rate_hz)
            wait = (lambda: None) if self._settings.paced else beat.wait
            loop = LiveLoop(robot, self._device, self._recorder, pilot, self._settings, wait=wait)
            settle()
            real_time(self._settings.priority, None)
            while not (self._ending.is_set() and loop.resting):
                while not self._wishes.empty():
                    loop.wish(*self._wishes.get())
                self._moment = loop.step(self._ending.is_set())
                if self._on_step is not None:
                    self._on_step(robot, self._moment)
                self._ready.set()
        except BaseException as error:
            if not isinstance(error, UserError):
                traceback.print_exc()
            self.error = error
        finally:
            self._ready.set()
            if pilot is not None:
                pilot.close()
            if robot is not None:
                robot.close()
