"""A stream of joint positions that keeps position, velocity, acceleration and jerk limits, and can always still stop.

Everything is counted on the samples a robot receives: v[k] = (q[k] - q[k-1]) / dt, a and j likewise. From any state the
limiter allows, `brake` leads to rest within the limits, so the sample after the next may be anything at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from vla.spec import Limits

Joints = Float[np.ndarray, " N"]
Batch = Float[np.ndarray, "*B N"]

TOLERANCE = 1e-9
"""Rounding allowed in positions (rad)."""
_REST = 1e-9
_GRID = np.linspace(0.0, 1.0, 17)[:, None]


@dataclass(frozen=True)
class Motion:
    """Position (rad), velocity and acceleration of every joint; leading axes are alternatives side by side."""

    position: Batch
    velocity: Batch
    acceleration: Batch

    @classmethod
    def rest(cls, position: Joints) -> Motion:
        position = np.array(position, np.float64)
        return cls(position, np.zeros_like(position), np.zeros_like(position))

    @property
    def is_rest(self) -> bool:
        return bool((np.abs(self.velocity) < _REST).all() and (np.abs(self.acceleration) < 1e-6).all())

    def then(self, acceleration: Batch, dt: float) -> Motion:
        """One sample later, at that acceleration."""
        velocity = self.velocity + acceleration * dt
        return Motion(self.position + velocity * dt, velocity, np.broadcast_to(acceleration, velocity.shape))


class JointLimiter:
    """Chooses the acceleration of the next sample; `dt` is the sample period in seconds."""

    def __init__(self, limits: Limits, dt: float) -> None:
        self.dt = dt
        self.low, self.high = np.array(limits.position, np.float64).T
        self.velocity = np.array(limits.velocity, np.float64)
        self.acceleration = np.array(limits.acceleration, np.float64)
        self.jerk = np.array(limits.jerk, np.float64)
        # What a sample changes at most: the velocity, and what it changes the velocity by.
        self._most, self._grain = self.acceleration * dt, self.jerk * dt**2

    def window(self, motion: Motion) -> tuple[Batch, Batch]:
        """The accelerations (low, high) that break no jerk or acceleration limit and lead to no velocity limit."""
        change = self.jerk * self.dt
        high = np.minimum(motion.acceleration + change, self._reaching(self.velocity - motion.velocity))
        low = np.maximum(motion.acceleration - change, -self._reaching(self.velocity + motion.velocity))
        return low, np.maximum(high, low)

    def match(self, motion: Motion, velocity: Batch) -> Batch:
        """The acceleration that reaches `velocity` soonest without passing it."""
        gap = velocity - motion.velocity
        return np.clip(np.sign(gap) * self._reaching(np.abs(gap)), *self.window(motion))

    def brake(self, motion: Motion) -> Batch:
        return self.match(motion, np.zeros_like(self.velocity))

    def toward(self, motion: Motion, target: Joints, speed: Joints) -> Joints:
        """The acceleration that is soonest at `target` (rad), which itself moves at `speed` (rad/s).

        A target that can be had exactly is had exactly; otherwise the hardest acceleration from which the joint can
        still come to `speed` before it passes the target.
        """
        low, high = self.window(motion)
        exact = ((target - motion.position) / self.dt - motion.velocity) / self.dt
        smooth = np.abs((target - motion.position) / self.dt - speed) <= self._most * (1 + 1e-6)
        slack = 1e-6 * self.acceleration
        direct = smooth & (exact >= low - slack) & (exact <= high + slack)
        if direct.all():
            return np.clip(exact, low, high)
        for _ in range(2):
            tries = low + _GRID * (high - low)
            after = motion.then(tries, self.dt)
            over = after.position + self._stop_distance(after.velocity - speed, tries) - target
            # `over` grows with the acceleration: the root lies between the last try below zero and the next.
            below = np.clip((over < 0).sum(0) - 1, 0, len(_GRID) - 2)
            columns = np.arange(len(low))
            low, high = tries[below, columns], tries[below + 1, columns]
            left, right = over[below, columns], over[below + 1, columns]
        share = np.clip(-left / np.where(right - left == 0, 1, right - left), 0, 1)
        return np.where(direct, np.clip(exact, *self.window(motion)), low + share * (high - low))

    def stop_path(self, motion: Motion) -> Float[np.ndarray, "T *B N"]:
        """The positions of every sample from `motion` to rest, beginning with its own: ramp, hold, ramp down.

        In velocity gained per sample: u - i, u - 2i, ... down to the acceleration limit at most, as long as there is
        velocity left to be back at zero in time; then w, w - i, w - 2i, ..., which sum to what is left.
        """
        dt, grain, most = self.dt, self._grain, self._most
        gain = motion.acceleration * dt
        coasting = motion.velocity + np.sign(gain) * self._ramp_sum(np.abs(gain) - grain)
        side = np.where(coasting < 0, -1.0, 1.0)
        v, u = side * motion.velocity, side * gain

        count = np.arange(1, self._ramp_samples + 1).reshape(-1, *[1] * v.ndim)
        ramp = u - count * grain
        before = v + np.cumsum(ramp, 0) - ramp
        can = (ramp >= -most * (1 + 1e-12)) & ((ramp >= 0) | (before >= self._ramp_sum(-ramp) - 1e-15))
        ramps = np.logical_and.accumulate(can, 0).sum(0)
        v = v + ramps * u - grain * ramps * (ramps + 1) / 2
        holds = np.maximum(np.floor((v - self._ramp_sum(most)) / most) + 1, 0)
        v = np.maximum(v - holds * most, 0)
        first = self._reaching(v) * dt
        length = int((ramps + holds + np.ceil(first / grain)).max()) + 1

        count = np.arange(1, length + 1).reshape(-1, *[1] * v.ndim)
        tail = -np.maximum(first - (count - ramps - holds - 1) * grain, 0)
        gains = side * np.where(count <= ramps, u - count * grain, np.where(count <= ramps + holds, -most, tail))
        travel = np.cumsum(motion.velocity + np.cumsum(gains, 0), 0) * dt
        return np.concatenate([motion.position[None], motion.position + travel])

    def keeps_position(self, path: Float[np.ndarray, "T *B N"]) -> Batch:
        """Which joints stay within their range all along the path."""
        return ((path >= self.low - TOLERANCE) & (path <= self.high + TOLERANCE)).all(0)

    def _reaching(self, gap: Batch) -> Batch:
        """The largest acceleration that can be back at zero, by the jerk limit, when the velocity has grown by `gap`.

        Per sample the velocity grows by w, w - i, w - 2i, ... with i = jerk dt^2: n terms sum to n w - i n (n - 1) / 2.
        """
        grain = self._grain
        gap = np.maximum(gap, 0.0)
        terms = np.maximum(np.ceil((np.sqrt(1 + 8 * gap / grain) - 1) / 2), 1)
        first = (gap + grain * terms * (terms - 1) / 2) / terms
        return np.minimum(first / self.dt, self.acceleration)

    def _stop_distance(self, velocity: Batch, acceleration: Batch) -> Batch:
        """How far a joint still travels to (velocity, acceleration) = 0 in continuous time: jerk, hold, jerk."""
        jerk = self.jerk
        side = np.where(velocity + acceleration * np.abs(acceleration) / (2 * jerk) < 0, -1.0, 1.0)
        v, a = side * velocity, side * acceleration
        peak = np.minimum(np.sqrt(np.maximum(jerk * v + a * a / 2, 0)), self.acceleration)
        first = np.maximum((a + peak) / jerk, 0)
        middle = np.maximum(v + a * a / (2 * jerk) - peak**2 / jerk, 0) / self.acceleration
        last = peak / jerk
        travel = v * first + a * first**2 / 2 - jerk * first**3 / 6
        v = v + a * first - jerk * first**2 / 2
        travel = travel + v * middle - peak * middle**2 / 2
        v = v - peak * middle
        return side * (travel + v * last - peak * last**2 / 2 + jerk * last**3 / 6)

    def _ramp_sum(self, first: Batch) -> Batch:
        """w + (w - i) + (w - 2i) + ..., as long as the terms are positive."""
        grain = self._grain
        terms = np.maximum(np.ceil(first / grain), 0)
        return terms * first - grain * terms * (terms - 1) / 2

    @cached_property
    def _ramp_samples(self) -> int:
        """More samples than the acceleration needs from one limit to the other."""
        return int(np.ceil(2 * (self.acceleration / self.jerk).max() / self.dt)) + 1
