"""S2 on a wall clock, and the way of its thoughts through shared memory."""

import numpy as np
import pytest

from vla import assets
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
    def think(self, images, instruction, stamp, instruction_id=0, words=False):
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


def test_it_looks_when_it_is_time_at_what_is_new_and_at_once_when_asked_something_else():
    memory, thoughts, asked = SenseMemory.of(SPEC), slot_memory(SPAWN, THOUGHT_BYTES), slot_memory(SPAWN, 1 << 10)
    clock = [10.0]
    mailbox, instructions = SharedMailbox(thoughts), Slot(asked)
    senses = Senses(SPEC, memory)
    loop = SlowLoop(Thinker(), senses, Slot(asked), SharedMailbox(thoughts), 0.5, lambda: clock[0])

    def see(stamp):
        StateWriter(memory).put(stamp, np.zeros(SPEC.state_size, np.float32))
        for name in SPEC.camera_names:
            CameraWriter(memory, name).put(stamp, np.zeros((96, 96, 3), np.uint8))

    see(9.9)
    assert loop.turn() is None, "nothing is asked"
    instructions.put(Instruction(0, "left").pack())
    assert loop.turn().stamp == 9.9
    assert mailbox.newest(0).stamp == 9.9
    clock[0] = 10.4
    see(10.3)
    assert loop.turn() is None, "not yet"
    instructions.put(Instruction(1, "right").pack())
    assert loop.turn().instruction_id == 1
    clock[0] = 11.0
    assert loop.turn() is None, "the image is still the same"
    assert mailbox.newest(1).latents[0, 0] == pytest.approx(5.0)
