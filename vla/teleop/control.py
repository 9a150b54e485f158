"""One control period after another: the hand before the policy, all through the safety gate, all of it recorded."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.data.live import LiveRecorder
from vla.data.spool import Driver, LiveFrame
from vla.errors import UserError
from vla.robots.base import Observation, Robot, SensesLost
from vla.runtime.commands import Action
from vla.runtime.guarded import GuardedRobot
from vla.runtime.safety_gate import Passed
from vla.runtime.stepped_pilot import SteppedPilot
from vla.runtime.threaded_pilot import PilotStatus, ThreadedPilot
from vla.teleop.devices import HEARTBEAT_S, Clutch, Device, Fingers, Reading
from vla.teleop.mapping import Mapper, Scaling
from vla.teleop.moment import Moment, Note
from vla.teleop.periods import Periods
from vla.teleop.scenes import Scenes

HAND_OVER_S = 0.3
"""So long a policy takes to come from rest to what it wants, when it is handed the robot."""
_NOTES = 6


@dataclass(frozen=True)
class SessionSettings:
    """seed: of the first scene, in simulation. heartbeat_s: see `Clutch`. policy_name: recorded with takes.
    instruction: where no scene has one. paced: the robot's `command` returns when the next control period begins.
    priority: of SCHED_FIFO, 0 for none.
    """

    seed: int = 0
    heartbeat_s: float = HEARTBEAT_S
    scaling: Scaling = field(default_factory=Scaling)
    policy_name: str = ""
    instruction: str = ""
    paced: bool = False
    priority: int = 0


class LiveLoop:
    """One `step` is one control period; robot, gate and pilot belong to the thread that calls it.

    clock: what time it is, in seconds; readings of the device are stamped by it. wait: until the next control period,
    for a robot whose `command` does not.
    """

    def __init__(
        self,
        robot: Robot,
        device: Device,
        recorder: LiveRecorder,
        pilot: ThreadedPilot | SteppedPilot | None,
        settings: SessionSettings,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[], object] = lambda: None,
    ) -> None:
        self._robot, self._device, self._recorder, self._settings = robot, device, recorder, settings
        self._clock, self._wait = clock, wait
        self._guarded = GuardedRobot(robot)
        self._gate = self._guarded.gate
        self._mapper = Mapper(self._gate, robot.spec.rate_hz, settings.scaling)
        self._clutch = Clutch(settings.heartbeat_s)
        self._pilot = pilot
        self._scenes = Scenes(robot, settings.instruction)
        self._lost = False
        self._seed = settings.seed
        self._taken: tuple[int, str] | None = None
        self._notes: deque[Note] = deque(maxlen=_NOTES)
        self._noted = self._step_count = 0
        self._periods = Periods(1 / robot.spec.rate_hz)
        self._handed = 0.0
        self._gripper, self._fingers = 1.0, Fingers()
        self._trips = 0
        self._wanted_reset: int | None = None
        self._reset(self._seed)

    @property
    def resting(self) -> bool:
        return self._gate.at_rest

    def wish(self, what: str, value: Any) -> None:
        try:
            WISHES[what](self, value)
        except UserError as error:
            self._note(str(error), bad=True)

    def step(self, ending: bool) -> Moment:
        now = self._clock()
        self._periods.note(now)
        if self._wanted_reset is not None and self._gate.at_rest:
            stopped = self._gate.stopped
            self._reset(self._wanted_reset)
            if stopped is not None:  # a person stopped the arm, and a person releases it
                self._gate.stop(stopped)
        reading = None if ending else self._device.read()
        engaged = self._clutch.update(reading, now) and self._gate.stopped is None and not self._lost
        if self._clutch.trips != self._trips:
            self._trips = self._clutch.trips
            self._release_policy(f"{self._clutch.why}: the arm holds")
        hand = reading if engaged else None
        self._gripper = self._fingers.follow(None if hand is None else hand.gripper, self._gripper)
        action, driver = self._choose(hand, now)
        seen, stopped = (self._observation, self._captured), self._gate.stopped
        passed = self._guarded.check(action, now, None if self._lost else self._observation)
        if stopped is None and passed.stopped is not None:
            self._let_all_go(f"the safety gate stopped the arm: {passed.stopped}", passed.stopped)
        if driver == "policy" and len(self._gate.gripper):
            self._gripper = self._gate.layout.opening(self._gate.gripper[0])
        keep = not self._lost and (self._clutch.present or not self._gate.at_rest)

        def record(sent: Action) -> None:
            if keep:
                self._record(seen, passed, sent, driver, now)
            else:
                self._recorder.forget_preroll()  # a take is one piece of time

        sent = self._exchange(passed, record)
        self._step_count += 1
        return self._look(passed, sent, driver, engaged)

    def _choose(self, hand: Reading | None, now: float) -> tuple[NDArray[Any] | None, Driver]:
        """The person before the policy; nobody: hold. hand: that has hold of the arm."""
        if self._gate.stopped is not None or self._lost:
            self._mapper.rest()
            return None, "nobody"
        if hand is None:
            self._mapper.let_go()
        if hand is not None or not self._mapper.at_rest:
            self._handed = now
            if self._pilot is not None and self._pilot.engaged:
                self._correcting = True
            if hand is not None and hand.joints is not None:
                return self._mapper.follow(hand.joints, self._gripper), "person"
            return self._mapper.action(np.zeros(6) if hand is None else hand.move, self._gripper), "person"
        pilot = self._pilot
        if pilot is None or not pilot.engaged:
            return None, "nobody"
        if self._correcting:
            self._correcting = False
            self._gate.expect_start()
            pilot.engage(self._observation)
        action = pilot.next(self._observation, self._captured, self._step_count)
        if pilot.status().failed:
            self._release_policy(f"the policy failed: {pilot.status().failed}")
        if action is None:
            self._handed = now
            return None, "policy"
        if self._robot.spec.action.is_relative:
            still = self._robot.spec.hold_action(action)
            action = still + (action - still) * min(1.0, (now - self._handed) / HAND_OVER_S)
        return action, "policy"

    def _exchange(self, passed: Passed, record: Callable[[Action], None]) -> Action:
        """Send, and look again. A robot that cannot say where it is or what it sees holds, and ends the take. record:
        gets what was sent before the wait; the recorder's thread, had it work later, would delay the next command.
        """
        sent = np.asarray(passed.applied, np.float32)
        try:
            try:
                sent = self._guarded.send(passed)
                record(sent)
            finally:
                self._wait()
            asked = self._clock()
            self._observation = self._robot.observe()
            self._captured = self._clock() if self._observation.ages else asked
        except SensesLost as error:
            if not self._lost:
                self._lose(str(error))
        else:
            if self._lost and self._gate.at_rest:
                self._find()
        return sent

    def _find(self) -> None:
        """Go on from where the robot is; where that is beyond its limits, a person must bring it back first."""
        try:
            self._guarded.find(self._observation)
        except UserError as error:
            if not any(note.text == str(error) for note in self._notes):
                self._note(str(error), bad=True)
            return
        self._lost = False
        self._note("the robot senses again: take hold")

    def _lose(self, what: str) -> None:
        self._lost = True
        self._mapper.rest()
        self._let_all_go(f"{what}: the arm holds", "the robot's senses are lost")
        self._recorder.forget_preroll()
        if self._recorder.status().recording:
            self._recorder.end(False)
            self._note("the take ends here, and is kept as a failure", bad=True)

    def _record(self, seen: tuple[Observation, float], passed: Passed, sent: Action, who: Driver, now: float) -> None:
        before, captured = seen
        said = sent if passed.commanded is None else np.asarray(passed.commanded, np.float32)
        intervened = who == "person" and self._pilot is not None and self._pilot.engaged
        times = {name: captured - before.ages.get(name, 0) for name in (*self._robot.spec.camera_names, "state")}
        self._recorder.offer(LiveFrame(before.images, before.state, said, sent, times, now, who, intervened))

    def _look(self, passed: Passed, sent: NDArray[np.float32], driver: Driver, engaged: bool) -> Moment:
        return Moment(
            step=self._step_count,
            observation=self._observation,
            captured=self._captured,
            driver=driver,
            engaged=engaged,
            trips=self._clutch.trips,
            why=self._clutch.why,
            stopped=self._gate.stopped,
            at_rest=self._gate.at_rest,
            rules=passed.rules,
            applied=sent,
            gripper=self._gripper,
            tool=self._gate.pose[0],
            rate_hz=self._periods.rate_hz,
            error_ms=self._periods.error_ms,
            late=self._periods.late,
            instruction=self._scenes.instruction,
            instructions=self._scenes.possible,
            policy_on=self._pilot is not None and self._pilot.engaged,
            pilot=self._pilot.status() if self._pilot is not None else PilotStatus(),
            success=self._scenes.success,
            seed=self._seed,
            notes=tuple(self._notes),
        )

    def _note(self, text: str, bad: bool = False) -> None:
        self._noted += 1
        self._notes.append(Note(self._noted, text, bad))

    def _reset(self, seed: int) -> None:
        self._wanted_reset = None
        self._seed = seed
        self._mapper.rest()
        self._observation, self._captured = self._guarded.reset(seed), self._clock()
        self._correcting = False
        self._gripper = self._opening()
        self._recorder.forget_preroll()
        self._scenes.begun()
        if self._pilot is not None:
            self._pilot.release()
            self._pilot.instruct(self._scenes.instruction)
        self._periods.pause()

    def _opening(self) -> float:
        measured = self._guarded.gripper(self._observation)
        return 1.0 if measured is None else self._gate.layout.opening(measured)

    def _let_all_go(self, told: str, why: str) -> None:
        """The hand and the policy: both must take hold anew."""
        self._clutch.trip(why)
        self._trips = self._clutch.trips
        self._release_policy(told)

    def _release_policy(self, why: str) -> None:
        if self._pilot is not None and self._pilot.engaged:
            self._pilot.release()
            self._correcting = False
            why += "; the policy is off"
        self._note(why, bad=True)

    def _next_scene(self, seed: int) -> None:
        """As soon as the arm rests: everybody lets go of it, and must take hold again."""
        if not self._scenes.exist:
            return
        self._wanted_reset = seed
        self._clutch.trip("the next scene")
        self._trips = self._clutch.trips
        if self._pilot is not None:
            self._pilot.release()

    # What an operator can ask for.

    def _check_able(self) -> None:
        if self._gate.stopped is not None:
            raise UserError("the arm is stopped: release the stop first")
        if self._lost:
            raise UserError("the robot's senses are lost: the arm holds")

    def _begin(self, _: Any) -> None:
        self._check_able()
        if self._wanted_reset is not None:
            raise UserError("the next scene is being set up: wait for the arm to come to rest")
        policy = self._settings.policy_name if self._pilot else ""
        self._taken = self._seed, self._recorder.begin(self._scenes.instruction, policy)
        self._note(f"recording: {self._scenes.instruction}")

    def _end(self, success: bool) -> None:
        if not self._recorder.status().recording:
            raise UserError("nothing is being recorded: start a take first")
        self._recorder.end(success)
        self._note("kept as a success" if success else "kept as a failure")
        self._next_scene(self._seed + 1)

    def _discard(self, _: Any) -> None:
        if not self._recorder.status().recording:
            raise UserError("nothing is being recorded: there is nothing to discard")
        self._recorder.discard()
        self._note("discarded")
        self._next_scene(self._seed + 1)

    def _undo(self, _: Any) -> None:
        if self._recorder.status().recording:
            raise UserError("a take is being recorded: end or discard it first")
        if not self._recorder.status().takes:
            raise UserError("no take of this session is left to undo")
        self._recorder.undo()
        self._note("the newest take is gone")

    def _again(self, _: Any) -> None:
        """The take begun last, whatever became of it, from its beginning."""
        if self._taken is None:
            raise UserError("there is no take to record again")
        seed, started = self._taken
        if self._recorder.status().recording:
            self._recorder.discard()
        else:
            self._recorder.undo(started)
        self._note("thrown away; the same scene again")
        self._next_scene(seed)

    def _stop(self, _: Any) -> None:
        self._gate.stop("emergency stop")
        self._let_all_go("emergency stop: the arm brakes and holds until you release the stop", "emergency stop")

    def _release(self, _: Any) -> None:
        if self._gate.stopped is None:
            return
        try:
            self._guarded.release(self._observation)
        except RuntimeError:
            raise UserError("the arm is still braking: try again when it rests") from None
        self._mapper.rest()
        self._note("the stop is released: take hold again")

    def _instruct(self, text: Any) -> None:
        if self._recorder.status().recording:
            raise UserError("a take keeps its words: end or discard it first")
        if not self._scenes.instruct(text):
            self._note("this scene cannot tell whether that is done: you judge")
        if self._pilot is not None:
            self._pilot.instruct(self._scenes.instruction)

    def _let_policy(self, on: Any) -> None:
        if self._pilot is None:
            raise UserError("there is no policy here: start with --policy")
        if not on:
            self._pilot.release()
        else:
            self._check_able()
            if not self._clutch.present:
                raise UserError("no operator is here to watch the policy")
            self._gate.expect_start()
            self._pilot.engage(self._observation)
        self._note("the policy drives; take hold to correct it" if on else "the policy is off")

    def _new_scene(self, _: Any) -> None:
        if self._recorder.status().recording:
            raise UserError("a take is being recorded: end or discard it first")
        self._next_scene(self._seed + 1)


WISHES: dict[str, Callable[[LiveLoop, Any], None]] = {
    "start": LiveLoop._begin,
    "success": lambda loop, _: loop._end(True),
    "fail": lambda loop, _: loop._end(False),
    "discard": LiveLoop._discard,
    "undo": LiveLoop._undo,
    "again": LiveLoop._again,
    "stop": LiveLoop._stop,
    "release": LiveLoop._release,
    "instruct": LiveLoop._instruct,
    "policy": LiveLoop._let_policy,
    "scene": LiveLoop._new_scene,
}
"""What `Session.ask` takes, and who does it."""
