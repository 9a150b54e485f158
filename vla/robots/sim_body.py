"""A simulated body that lives in wall-clock time: the process in which MuJoCo steps, whoever may be late."""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vla.actions.limits import JointLimiter, Motion
from vla.errors import UserError
from vla.processes import Ending, real_time, settle
from vla.robots.gym_sim import GymRobot, make_robot
from vla.robots.senses import StateWriter
from vla.robots.sim_wires import DT, BodySettings, BodyState, CommandReader, JointCommand, Wires, World
from vla.shared_slot import Slot
from vla.spec import RobotSpec

_GRACE = 1.5
"""After so many periods without a command the body moves on by itself."""
_ASLEEP = 0.25
"""Further behind the clock (s) than this, it gives up the time that is lost."""
_FAREWELL = 2.0
"""How long (s) the body outlives whoever started it: those who command it may still have to bring it to rest."""


def run(world: World, wires: Wires, how: BodySettings, parent: int) -> None:
    """The process's main function: connect, reset to the scene, live until told to end."""
    ending = Ending(parent)
    states = Slot(wires.states)
    try:
        with make_robot(world.env, world.task, world.split, render=False) as robot:
            log = BodyLog(Path(how.log)) if how.log else None
            body = Body(robot, world, wires, how, log, real_time(how.priority, None))
            settle()
            body.live(ending)
    except UserError as error:
        states.put(BodyState(phase="failed", error=str(error)[:2000]).pack())
    except Exception as error:
        states.put(BodyState(phase="failed", error=f"{type(error).__name__}: {error}"[:2000]).pack())
        raise


class Body:
    """Its physics goes on in ticks of 5 ms. A tick is due when a command comes, as on a fieldbus, so that every sample
    is one tick's motion however the two processes are scheduled; without one, soon after the clock says so.

    The servos get the commanded joints through a limiter of the body's own, with the spec's limits, as robot
    controllers have one: a stream that keeps them passes unchanged; when it breaks off, the body brakes by itself, and
    when it comes back somewhere else, the body goes there within its limits.
    """

    def __init__(
        self,
        robot: GymRobot,
        world: World,
        wires: Wires,
        how: BodySettings,
        log: BodyLog | None,
        scheduling: str,
    ) -> None:
        limits, slices = robot.spec.limits, robot.spec.state_slices
        if limits is None or "joint_position" not in slices:
            raise UserError(f"robot spec: {robot.spec.name} needs limits and joint_position in its state to run here")
        self._robot, self._world = robot, world
        state = self._begin()
        self._joints, self._slices = slices["joint_position"], slices
        self._limiter = JointLimiter(limits, DT)
        self._motion = Motion.rest(state[self._joints].astype(np.float64))
        self._wanted = self._motion.position
        self._gripper = float(state[slices["gripper"]][0]) if "gripper" in slices else 0.0
        self._commands = CommandReader(wires)
        self._snapshots, self._states, self._wishes = (Slot(m) for m in (wires.snapshots, wires.states, wires.wishes))
        self._felt = StateWriter(wires.senses)
        self._on_the_way: deque[tuple[float, Float[np.ndarray, " S"]]] = deque()
        self._latency = how.state_latency_s
        self._log, self._scheduling = log, scheduling
        self._ticks = self._received = self._lost = self._silent = 0
        self._slipped = self._gap = self._began = 0.0
        self._last: tuple[int, float] | None = None
        self._solved: float | None = None

    def live(self, ending: Ending) -> None:
        epoch, farewell = time.monotonic(), None
        while True:
            now = time.monotonic()
            if ending:
                farewell = farewell or now + (_FAREWELL if ending.orphaned else 0.0)
                if now >= farewell:
                    return
            due = epoch + (self._ticks + _GRACE) * DT
            commands = self._commands.wait(due - now)
            now = time.monotonic()
            for command in commands:
                self._receive(command, now)
                self._tick(command, now)
            if not commands and now >= due:
                self._tick(None, now)
            behind = now - epoch - self._ticks * DT
            if behind > _ASLEEP:
                self._slipped += behind
                epoch += behind

    def _receive(self, command: JointCommand, now: float) -> None:
        self._received += 1
        if self._last is not None and command.number > self._last[0]:
            self._lost += command.number - self._last[0] - 1
            self._gap = max(self._gap, now - self._last[1])
        self._last = command.number, now
        if self._log:
            self._log.receipt(now, command)

    def _tick(self, command: JointCommand | None, now: float) -> None:
        self._hear()
        limiter, motion = self._limiter, self._motion
        if command is None:
            self._silent += 1
            acceleration = limiter.brake(motion)
        else:
            wanted = np.clip(command.joints, limiter.low, limiter.high)
            speed = np.clip((wanted - self._wanted) / DT, -limiter.velocity, limiter.velocity)
            acceleration = limiter.toward(motion, wanted, speed)
            self._wanted, self._gripper = wanted, command.gripper
        self._motion = motion.then(acceleration, DT)
        state = self._robot.servo(self._motion.position, self._gripper)
        self._ticks += 1
        if self._robot.success and self._solved is None:
            self._solved = self._ticks * DT - self._began
        if self._log:
            self._log.motion(now, self._motion.position, state[self._joints], command is not None)
        self._tell(now, state)

    def _hear(self) -> None:
        if self._wishes.take() is not None:
            self._begin()
            self._began, self._solved = self._ticks * DT, None

    def _begin(self) -> Float[np.ndarray, " S"]:
        """The scene as its seed has it; returns the state (S,)."""
        state = self._robot.reset(self._world.seed).state
        if self._world.instruction is not None:
            self._robot.set_instruction(self._world.instruction)
        return state

    def _tell(self, now: float, state: Float[np.ndarray, " S"]) -> None:
        snapshot = self._robot.snapshot()
        if snapshot is not None:
            self._snapshots.put(np.append(now, snapshot).tobytes())
        self._on_the_way.append((now, state))
        while self._on_the_way and self._on_the_way[0][0] <= now - self._latency:
            self._felt.put(*self._on_the_way.popleft())
        told = BodyState(
            phase="running",
            ticks=self._ticks,
            received=self._received,
            lost=self._lost,
            silent=self._silent,
            slipped=self._slipped,
            gap=self._gap,
            began_s=self._began,
            solved_s=self._solved,
            instruction=self._robot.instruction,
            scheduling=self._scheduling,
            log_lost=self._log.lost if self._log else "",
        )
        self._states.put(told.pack())


class BodyLog:
    """Two files of float64 rows in `folder`, which is made: see `read_log`.

    lost: why it ends here, as when the disk is full; that never ends the run.
    """

    def __init__(self, folder: Path) -> None:
        self.lost = ""
        folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self._receipts, self._motions = (os.open(folder / name, flags) for name in ("receipts.f64", "motion.f64"))

    def receipt(self, now: float, command: JointCommand) -> None:
        self._write(self._receipts, [now, command.sent, *command.joints, command.gripper])

    def motion(self, now: float, target: Any, measured: Any, commanded: bool) -> None:
        self._write(self._motions, [now, commanded, *target, *measured])

    def _write(self, file: int, row: list[float]) -> None:
        if self.lost:
            return
        try:
            data = np.array(row).tobytes()
            if os.write(file, data) < len(data):
                self.lost = "only part of a row could be written"
        except OSError as error:
            self.lost = error.strerror or str(error)


def read_log(folder: str | Path, spec: RobotSpec) -> tuple[Float[np.ndarray, "R C"], Float[np.ndarray, "T M"]]:
    """receipts: a row per command: when it was received and when sent (s), joints (N, rad), gripper. motion: a row per
    tick of 5 ms: when (s), whether there was a command (1, 0), the servos' targets (N, rad), the measured joints (N).
    """
    joints = len(spec.kinematics.joints) if spec.kinematics else 0
    widths = {"receipts.f64": joints + 3, "motion.f64": 2 * joints + 2}
    read = {}
    for name, width in widths.items():
        values = np.fromfile(Path(folder) / name)
        read[name] = values[: len(values) // width * width].reshape(-1, width)
    return read["receipts.f64"], read["motion.f64"]
