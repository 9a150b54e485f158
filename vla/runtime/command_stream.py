"""From chunks of actions at the policy's rate to one smooth stream of commands at the robot's.

An action is where the robot is to be (or how fast, in velocity mode) at the end of its control period. Between these
knots runs a cubic Hermite curve, rotations on the group of rotations. A new chunk takes over from the position and
velocity the stream has at that moment, so neither jumps. When the chunks run out there is nothing to say, and the gate
behind brings the robot to rest. Pure logic: time is given, so that tests and simulated clocks can drive it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vla.actions.poses import Matrix, angular_velocity, delta_between, integrate_delta, rotation_vector_rate
from vla.actions.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from vla.runtime.clock import EPSILON
from vla.runtime.commands import Action, ActionLayout, Command
from vla.runtime.safety_gate import SafetyGate

Array = Float[np.ndarray, " D"]


@dataclass(frozen=True)
class TimedChunk:
    """actions: (H, A) in robot units; row i is for the control period that begins i periods after `start` (s)."""

    start: float
    actions: Float[np.ndarray, "H A"]


@dataclass(frozen=True)
class Waypoint:
    """Where the stream is at one moment and how it moves.

    vector: joints (rad), joint velocities (rad/s) or tool position (m); rate: its change per second. turn: the tool's
    rotation, spin: its angular velocity (rad/s, base frame); both matter in Cartesian modes only. gripper: (G,).
    """

    time: float
    vector: Array
    rate: Array
    turn: Matrix
    spin: Array
    gripper: Array

    @classmethod
    def of_gate(cls, gate: SafetyGate, now: float) -> Waypoint:
        """Where the gate has the robot: what a stream begins from."""
        motion, (place, turn) = gate.motion, gate.pose
        if gate.layout.is_cartesian:
            twist = gate.twist
            return cls(now, place, twist[:3], turn, twist[3:], gate.gripper)
        if gate.layout.mode == "joint_velocity":
            return cls(now, motion.velocity, np.zeros_like(motion.velocity), turn, np.zeros(3), gate.gripper)
        return cls(now, motion.position, motion.velocity, turn, np.zeros(3), gate.gripper)


class CommandStream:
    """period: seconds between two actions of a chunk, 1 / `RobotSpec.rate_hz`."""

    def __init__(self, layout: ActionLayout, period: float) -> None:
        self._layout = layout
        self._period = period
        self._path: list[Waypoint] = []
        self._pending: TimedChunk | None = None
        self._newest = -np.inf
        self._said: Waypoint | None = None
        self.starvations = 0
        self.outdated = 0

    def submit(self, chunk: TimedChunk) -> bool:
        """Hand over a chunk, which takes over when its `start` has come; False if a later one was there before."""
        if chunk.start < self._newest:
            self.outdated += 1
            return False
        self._newest = chunk.start
        self._pending = chunk
        return True

    def drop(self) -> None:
        """Forget every chunk: there is nothing to say until the next one."""
        self._path, self._pending, self._said = [], None, None

    def sample(self, now: float, here: Callable[[], Waypoint]) -> Action | None:
        """The action (A,) for this moment (s), or None: hold. In delta mode it is the delta from the sample before.

        here: gives where the robot is commanded to be; asked for where the stream begins.
        """
        if self._pending is not None and now >= self._pending.start - EPSILON:
            self._take_over(self._pending, now, here)
            self._pending = None
        if not self._path:
            return None
        if now > self._path[-1].time + EPSILON:
            self.starvations += 1
            self._path, self._said = [], None
            return None
        point = self._at(now)
        turn: Matrix | None = point.turn
        vector = point.vector
        if self._layout.mode == "ee_delta":
            before = self._said or here()
            vector, turn = delta_between(before.vector, before.turn, point.vector, point.turn)
        self._said = point
        return self._layout.encode(Command(vector, turn, point.gripper))

    def _take_over(self, chunk: TimedChunk, now: float, here: Callable[[], Waypoint]) -> None:
        """Lead from where the stream is now through the knots that are still ahead."""
        first = int((now - chunk.start) / self._period + EPSILON)
        if first >= len(chunk.actions):
            self.outdated += 1
            return
        running = bool(self._path) and now <= self._path[-1].time + EPSILON
        begin = self._at(now) if running else here()
        knots = self._knots(chunk, first, begin)
        # A knot that is almost there could only be reached by a jerk; the next one is soon enough.
        while len(knots) > 1 and knots[0].time < now + self._period / 2:
            del knots[0]
        self._path = _smooth([begin, *knots])
        if not running:
            self._said = None

    def _knots(self, chunk: TimedChunk, first: int, begin: Waypoint) -> list[Waypoint]:
        """One at the end of each control period from row `first` on; rates are still to be filled in."""
        began = chunk.start + first * self._period
        covered = bool(self._path) and self._path[0].time <= began <= self._path[-1].time
        anchor = self._at(began) if covered else begin
        place, turn = anchor.vector, anchor.turn
        knots = []
        for row in range(first, len(chunk.actions)):
            command = self._layout.decode(chunk.actions[row])
            if self._layout.mode == "ee_delta":
                still = np.eye(3) if command.turn is None else command.turn
                place, turn = integrate_delta(place, turn, command.vector, still)
            else:
                place, turn = command.vector, turn if command.turn is None else command.turn
            time = chunk.start + (row + 1) * self._period
            knots.append(Waypoint(time, place, np.zeros_like(place), turn, np.zeros(3), command.gripper))
        return knots

    def _at(self, time: float) -> Waypoint:
        path = self._path
        after = next((i for i in range(1, len(path)) if time <= path[i].time), len(path) - 1)
        return _between(path[after - 1], path[after], time)


def _smooth(points: list[Waypoint]) -> list[Waypoint]:
    """Points but the first get the rate of the parabola through them and their neighbours; the last, of its chord."""
    smooth = [points[0]]
    for i in range(1, len(points)):
        rate, spin = _chord(points[i - 1], points[i])
        if i + 1 < len(points):
            next_rate, next_spin = _chord(points[i], points[i + 1])
            before, after = points[i].time - points[i - 1].time, points[i + 1].time - points[i].time
            share = before / (before + after)  # of the chord after: the shorter one counts for more
            rate, spin = rate + share * (next_rate - rate), spin + share * (next_spin - spin)
        point = points[i]
        smooth.append(Waypoint(point.time, point.vector, rate, point.turn, spin, point.gripper))
    return smooth


def _chord(a: Waypoint, b: Waypoint) -> tuple[Array, Array]:
    seconds = max(b.time - a.time, EPSILON)
    return (b.vector - a.vector) / seconds, matrix_to_axis_angle(b.turn @ a.turn.T) / seconds


def _between(a: Waypoint, b: Waypoint, time: float) -> Waypoint:
    seconds = max(b.time - a.time, EPSILON)
    share = float(np.clip((time - a.time) / seconds, 0, 1))
    vector, rate = _hermite(share, seconds, a.vector, a.rate, b.vector, b.rate)
    turned = matrix_to_axis_angle(b.turn @ a.turn.T)
    end_rate = rotation_vector_rate(turned, b.spin)
    angle, angle_rate = _hermite(share, seconds, np.zeros(3), a.spin, turned, end_rate)
    turn = axis_angle_to_matrix(angle) @ a.turn
    gripper = a.gripper + share * (b.gripper - a.gripper)
    return Waypoint(time, vector, rate, turn, angular_velocity(angle, angle_rate), gripper)


def _hermite(share: float, seconds: float, p: Array, v: Array, q: Array, w: Array) -> tuple[Array, Array]:
    """Value and rate of the cubic from p, at rate v, to q, at rate w, over `seconds`."""
    s = share
    value = (
        (2 * s**3 - 3 * s**2 + 1) * p
        + (s**3 - 2 * s**2 + s) * seconds * v
        + (3 * s**2 - 2 * s**3) * q
        + (s**3 - s**2) * seconds * w
    )
    rate = (6 * s**2 - 6 * s) * (p - q) / seconds + (3 * s**2 - 4 * s + 1) * v + (3 * s**2 - 2 * s) * w
    return value, rate
