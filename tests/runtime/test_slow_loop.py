"""S2 on a wall clock, and the way of its thoughts through shared memory."""

import numpy as np
import pytest

from vla import assets
from vla.errors import Unreachable
from vla.processes import SPAWN
from vla.robots.senses import CameraWriter, SenseMemory, Senses, StateWriter
from vla.runtime.reports import Instruction
from vla.runtime.shared_mailbox import THOUGHT_BYTES, SharedMailbox
from vla.runtime.slow_loop import SlowLoop
from vla.s2.thought import Thought
from vla.shared_slot import Slot, slot_memory
from vla.spec import RobotSpec

SPEC = RobotSpec.load(assets.find("robot", "tabletop"))


class Thinker:
    away = False

    def __init__(self):
        self.asked = []

    def think(self, images, instruction, stamp, instruction_id=0, words=False):
        assert {name: image.shape for name, image in images.items()} == {"front": (96, 96, 3), "wrist": (96, 96, 3)}
        self.asked.append(instruction)
        if self.away:
            raise Unreachable("nobody there")
        return Thought(np.full((2, 3), len(instruction), np.float32), stamp, instruction_id, "seen")


def test_a_thought_arrives_whole_and_only_for_the_instruction_it_answers():
    memory = slot_memory(SPAWN, THOUGHT_BYTES)
    writer, reader = SharedMailbox(memory), SharedMailbox(memory)
    latents = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    writer.put(Thought(latents, 12.5, 3, "the red cube"))
    assert reader.newest(2) is None
    thought = reader.newest(3)
    assert np.array_equal(thought.latents, latents)
    assert (thought.stamp, thought.instruction_id, thought.text) == (12.5, 3, "the red cube")


@pytest.fixture
def world():
    return World()


class World:
    def __init__(self):
        self.memory, thoughts, asked = (
            SenseMemory.of(SPEC),
            slot_memory(SPAWN, THOUGHT_BYTES),
            slot_memory(SPAWN, 1 << 10),
        )
        self.now, self.thinker = 10.0, Thinker()
        self.mailbox, self.instructions = SharedMailbox(thoughts), Slot(asked)
        senses, mailbox = Senses(SPEC, self.memory), SharedMailbox(thoughts)
        self.loop = SlowLoop(self.thinker, senses, Slot(asked), mailbox, 0.5, lambda: self.now)

    def see(self, stamp):
        StateWriter(self.memory).put(stamp, np.zeros(SPEC.state_size, np.float32))
        for name in SPEC.camera_names:
            CameraWriter(self.memory, name).put(stamp, np.zeros((96, 96, 3), np.uint8))


def test_it_looks_when_it_is_time_at_what_is_new_and_at_once_when_asked_something_else(world):
    world.see(9.9)
    assert world.loop.turn() is None, "nothing is asked"
    world.instructions.put(Instruction(0, "left").pack())
    assert world.loop.turn().stamp == 9.9
    assert world.mailbox.newest(0).stamp == 9.9
    world.now = 10.4
    world.see(10.3)
    assert world.loop.turn() is None, "not yet"
    world.instructions.put(Instruction(1, "right").pack())
    assert world.loop.turn().instruction_id == 1
    world.now = 11.0
    assert world.loop.turn() is None, "the image is still the same"
    assert world.mailbox.newest(1).latents[0, 0] == pytest.approx(5.0)


def test_its_first_call_is_over_before_anything_is_asked_and_leaves_no_thought(world):
    for _ in range(3):
        assert world.loop.turn() is None
    assert len(world.thinker.asked) == 1 and world.mailbox.newest(0) is None
    world.see(9.9)
    world.instructions.put(Instruction(0, "left").pack())
    assert world.loop.turn().stamp == 9.9 and world.thinker.asked[1:] == ["left"]


def test_started_again_while_something_is_asked_it_looks_at_once(world):
    world.see(9.9)
    world.instructions.put(Instruction(0, "left").pack())
    assert world.loop.turn().stamp == 9.9 and world.thinker.asked == ["left"]


def test_out_of_reach_it_says_so_and_looks_again_when_the_next_look_is_due(world):
    world.instructions.put(Instruction(0, "left").pack())
    world.thinker.away = True
    world.see(9.9)
    assert world.loop.turn().away == "nobody there"
    world.see(10.0)
    assert world.loop.turn() is None and world.mailbox.newest(0) is None
    world.now, world.thinker.away = 10.6, False
    assert world.loop.turn().stamp == 10.0 and world.mailbox.newest(0).stamp == 10.0
