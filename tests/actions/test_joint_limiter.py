"""The jerk-limited joint stream, alone: every state it can get into has a way to rest within the limits."""

from __future__ import annotations

import numpy as np
import pytest

from vla.actions.limits import JointLimiter, Motion
from vla.spec import Box, Limits

DT = 0.005
BOX = Box((-1, 1), (-1, 1), (-1, 1))
# From a jerk that is spent within one sample to one that takes most of a second to build up an acceleration.
LIMITS = Limits(
    position=((-1.0, 2.0),) * 5,
    velocity=(2.0, 2.0, 0.5, 3.0, 0.1),
    acceleration=(10.0, 10.0, 2.0, 20.0, 0.3),
    jerk=(5000.0, 500.0, 60.0, 25.0, 7.0),
    tool_speed=1.0,
    workspace=BOX,
)


def derivatives(path: np.ndarray) -> list[np.ndarray]:
    """The largest velocity, acceleration and jerk as a part of its limit."""
    parts = []
    for name in ("velocity", "acceleration", "jerk"):
        path = np.diff(path, axis=0) / DT
        parts.append(np.abs(path).max(initial=0) if path.size == 0 else (np.abs(path) / getattr(LIMITS, name)).max())
    return parts


@pytest.mark.parametrize("seed", range(3))
def test_from_every_state_the_way_to_rest_keeps_the_limits(seed):
    limiter, rng = JointLimiter(LIMITS, DT), np.random.default_rng(seed)
    motion = Motion.rest(np.full(5, 0.5))
    before = [motion.position] * 2
    for k in range(700):
        if k % rng.integers(1, 60) == 0:
            wanted = rng.choice([-1.0, 0.0, 1.0], 5) * LIMITS.velocity
        motion = motion.then(limiter.match(motion, wanted), DT)
        path = limiter.stop_path(motion)
        assert max(derivatives(np.concatenate([before, path]))) <= 1 + 1e-6
        assert np.abs(path[-1] - path[-2]).max() < 1e-12 if len(path) > 1 else motion.is_rest
        before = [before[1], motion.position]


@pytest.mark.parametrize("seed", range(3))
def test_targets_at_random_are_chased_within_the_limits_and_reached(seed):
    limiter, rng = JointLimiter(LIMITS, DT), np.random.default_rng(seed)
    motion = Motion.rest(np.full(5, 0.5))
    path, target = [motion.position] * 3, motion.position
    for k in range(1000):
        if k < 600 and k % 25 == 0:
            target = np.clip(motion.position + rng.uniform(-0.2, 0.2, 5), -1, 2)
        motion = motion.then(limiter.toward(motion, target, np.zeros(5)), DT)
        path.append(motion.position)
        assert limiter.keeps_position(limiter.stop_path(motion)).all()
    assert max(derivatives(np.array(path))) <= 1 + 1e-6
    np.testing.assert_allclose(motion.position[:4], target[:4], atol=1e-6)


def test_a_step_is_reached_without_passing_it_in_little_more_than_the_least_time():
    limiter = JointLimiter(LIMITS, DT)
    motion, target = Motion.rest(np.zeros(5)), np.array([1.0, 1.0, 0.5, 1.0, 0.02])
    path = []
    for _ in range(500):
        motion = motion.then(limiter.toward(motion, target, np.zeros(5)), DT)
        path.append(motion.position)
    v, a, j = (np.array(getattr(LIMITS, name)) for name in ("velocity", "acceleration", "jerk"))
    least = target / v + v / a + a / j  # jerk up, hold, jerk down, cruise and back: where there is room for all of it
    arrived = (np.abs(np.array(path) - target) > 1e-4).sum(0) * DT
    assert (np.array(path) <= target + 1e-9).all()
    assert (arrived[:3] <= 1.05 * least[:3] + 2 * DT).all()


def test_a_moving_target_is_followed_to_the_last_bit_once_it_is_caught():
    limiter = JointLimiter(LIMITS, DT)
    motion, speed = Motion.rest(np.zeros(5)), 0.5 * np.array(LIMITS.velocity)
    for k in range(1, 500):
        target = 0.01 + k * DT * speed
        motion = motion.then(limiter.toward(motion, target, speed), DT)
    np.testing.assert_allclose(motion.position, target, atol=1e-12)
