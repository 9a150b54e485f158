"""Images and states from different processes, put together by the times at which they were captured."""

import numpy as np
import pytest

from vla import assets
from vla.robots.senses import CameraWriter, SenseMemory, Senses, StateReader, StateWriter
from vla.spec import RobotSpec

SPEC = RobotSpec.load(assets.find("robot", "tabletop"))


@pytest.fixture
def memory():
    return SenseMemory.of(SPEC)


def image(value: int) -> np.ndarray:
    return np.full((96, 96, 3), value, np.uint8)


def state(value: float) -> np.ndarray:
    return np.full(SPEC.state_size, value, np.float32)


def test_there_is_no_observation_before_one_of_each_has_come(memory):
    senses, states = Senses(SPEC, memory), StateWriter(memory)
    front, wrist = (CameraWriter(memory, name) for name in ("front", "wrist"))
    front.put(1.0, image(1))
    assert senses.observe() is None
    wrist.put(1.0, image(2))
    assert senses.observe() is None
    states.put(1.0, state(0.5))
    observation = senses.observe()
    assert observation is not None and observation.stamp == 1.0
    assert (observation.images["wrist"] == 2).all() and (observation.state == 0.5).all()


def test_the_state_is_that_of_the_time_of_the_oldest_image(memory):
    senses, states = Senses(SPEC, memory), StateWriter(memory)
    for k in range(40):
        states.put(10 + k * 0.005, state(k))
    CameraWriter(memory, "front").put(10.1, image(1))
    CameraWriter(memory, "wrist").put(10.052, image(2))
    observation = senses.observe()
    assert observation.stamp == 10.052
    assert observation.state[0] == 10, "captured at 10.05, the last one before the image"
    assert StateReader(memory).as_of(3.0)[0] == 0, "nothing so old is held: the oldest there is"


def test_a_reader_of_one_camera_does_not_wait_for_the_others(memory):
    senses = Senses(SPEC, memory, ["front"])
    StateWriter(memory).put(1.0, state(0))
    CameraWriter(memory, "front").put(1.0, image(7))
    assert set(senses.observe().images) == {"front"}
