"""A simulated robot in wall-clock time: a body and cameras in processes of their own, reached as a real robot is.

It takes joint positions 200 times a second. An `ee_delta` policy drives it by the same rule as everywhere: a delta
integrates onto the last *commanded* pose, by `vla.actions.poses.integrate_delta`. In one process that happens once per
control period; here the command stream integrates the chunk's deltas into knots, puts a curve through them and cuts it
into 200 small deltas a second, and the gate integrates those and finds the joints. The joints go over the wire, not the
deltas: the body then moves in the joints whose limits were checked (its arm has one joint more than a tool pose needs),
and a sample that is lost costs a sample, not a shift of every pose after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from vla import assets
from vla.errors import UserError
from vla.processes import Maker, Part
from vla.robots import sim_body, sim_cameras
from vla.robots.gym_sim import check_rendering, find_environment
from vla.robots.senses import SenseMemory, Senses, StateReader
from vla.robots.sim_wires import BodySettings, BodyState, CommandWriter, JointCommand, Wires, World
from vla.shared_slot import Slot
from vla.spec import RobotSpec

_HUNG = 10.0
"""A body that says nothing for so long (s) is not waited for."""


class RealTimeSim:
    """Belongs to the process that starts everything; `close` may be called twice.

    servos: what `CommandProcess` needs to command it. sense_memory: where it leaves what it senses.
    """

    def __init__(self, world: World, how: BodySettings | None = None, state_lost_s: float = 0.5) -> None:
        check_rendering()
        environment = find_environment(world.env, world.task, world.split)
        self.spec = RobotSpec.load(assets.find("robot", environment.robot))
        how = how or BodySettings()
        self._wires = Wires.of(self.spec)
        self.sense_memory: SenseMemory = self._wires.senses
        self.servos = Maker(f"{__name__}:SimServos", {"wires": self._wires, "state_lost_s": state_lost_s})
        self.body = Part("body", sim_body.run, world, self._wires, how)
        self.cameras = Part("cameras", sim_cameras.run, world, self._wires, how)
        self._states, self._wishes = Slot(self._wires.states), Slot(self._wires.wishes)
        self._state, self._heard = BodyState(), time.monotonic()

    def start(self, timeout: float = 60.0) -> None:
        """Returns when it senses. Raises UserError if that fails or takes longer (s)."""
        senses = Senses(self.spec, self.sense_memory)
        self.body.start()
        self.cameras.start()
        self._wait(lambda: self.state().phase == "running", timeout, "the simulated body has not started")
        self._wait(lambda: senses.observe() is not None, timeout, "the simulated cameras have not started")

    def state(self) -> BodyState:
        """The newest the body said of itself."""
        message = self._states.take()
        if message is not None:
            self._state, self._heard = BodyState.unpack(message), time.monotonic()
        return self._state

    def check(self) -> None:
        """Raises UserError if one of its processes is gone, or the body's time stands still."""
        state = self.state()
        for part in (self.body, self.cameras):
            if not part.alive:
                raise UserError(f"the simulated {part.name} died: {state.error or f'exit code {part.exitcode}'}")
        if time.monotonic() - self._heard > _HUNG:
            raise UserError(f"the simulated body gave no sign of life for {_HUNG:g} s")

    def begin(self, timeout: float = 60.0) -> BodyState:
        """The scene begins anew, as its seed has it: things happen in it by themselves while processes start.

        To be called while the robot rests where it started. Returns what the body says then; UserError as `start`.
        """
        before = self.state().began_s
        self._wishes.put(b"begin")
        self._wait(lambda: self.state().began_s > before, timeout, "the scene has not begun anew")
        return self._state

    def close(self) -> None:
        for part in (self.cameras, self.body):
            part.close()

    def _wait(self, ready: Callable[[], bool], timeout: float, otherwise: str) -> None:
        deadline = time.monotonic() + timeout
        while not ready():
            dead = [part for part in (self.body, self.cameras) if not part.alive]
            if self.state().phase == "failed":
                raise UserError(self.state().error)
            if dead:
                raise UserError(f"{otherwise}: its process ended with exit code {dead[0].exitcode}")
            if time.monotonic() > deadline:
                raise UserError(f"{otherwise} within {timeout:g} s")
            time.sleep(0.01)


class SimServos:
    """The fast half of the robot, in the command process (`vla.runtime.command_loop.Servos`).

    state_lost_s: joint states older than this (s) count as unknown, which makes the gate stop.
    Raises UserError if no state comes.
    """

    def __init__(self, spec: RobotSpec, wires: Wires, state_lost_s: float = 0.5) -> None:
        self._states = StateReader(wires.senses)
        self._commands = CommandWriter(wires)
        self._lost = state_lost_s
        self._joints, self._gripper = spec.state_slices["joint_position"], spec.state_slices.get("gripper")
        self._action_gripper = spec.action_slices.get("gripper")
        self._number = 0
        deadline = time.monotonic() + 20
        while self._states.newest() is None:
            if time.monotonic() > deadline:
                raise UserError("the simulated body sends no joint states")
            time.sleep(0.001)

    def measure(self) -> tuple[Float[np.ndarray, " N"], float | None]:
        newest = self._states.newest()
        assert newest is not None
        stamp, state = newest
        joints = state[self._joints].astype(np.float64)
        if time.monotonic() - stamp > self._lost:
            joints[:] = np.nan
        return joints, None if self._gripper is None else float(state[self._gripper][0])

    def command(self, action: Float[np.ndarray, " A"], joints: Float[np.ndarray, " N"]) -> None:
        self._number += 1
        gripper = 0.0 if self._action_gripper is None else float(action[self._action_gripper][0])
        self._commands.put(JointCommand(self._number, time.monotonic(), joints, gripper))

    def close(self) -> None:
        """Nothing: the body goes on living, at rest."""
