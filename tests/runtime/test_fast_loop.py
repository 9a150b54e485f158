"""S1 on a wall clock, with the clock in the test's hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from vla import assets
from vla.errors import Unreachable
from vla.processes import SPAWN
from vla.robots.senses import CameraWriter, SenseMemory, Senses, StateWriter
from vla.runtime.chunk_port import CHUNK_BYTES, ChunkPort
from vla.runtime.command_state import unpack_chunk
from vla.runtime.fast_loop import FastLoop, FastSettings
from vla.runtime.reports import Instruction
from vla.runtime.shared_mailbox import THOUGHT_BYTES, SharedMailbox
from vla.s2.thought import Thought
from vla.shared_slot import Slot, slot_memory
from vla.spec import RobotSpec

SPEC = RobotSpec.load(assets.find("robot", "tabletop"))
STEP = 1 / SPEC.rate_hz


class Policy:
    """Row i of its chunk moves by i mm; it takes as long as it is told to."""

    spec, config = SPEC, SimpleNamespace(replan_steps=4)

    def __init__(self, world):
        self.world, self.takes, self.value, self.prefixes, self.ages = world, 0.0, 0.001, [], []
        self.away, self.asked = False, 0

    def act(self, images, state, thought, now, prefix):
        self.asked += 1
        if self.away:
            raise Unreachable("nobody there")
        self.world.now += self.takes
        self.prefixes.append(prefix)
        self.ages.append(None if thought is None else thought.age(now))
        chunk = np.zeros((16, 7), np.float32)
        chunk[:, 0] = self.value * np.arange(16)
        return chunk


class World:
    def __init__(self):
        self.now = 100.0
        self.policy = Policy(self)
        memory = SenseMemory.of(SPEC)
        self.cameras = [CameraWriter(memory, name) for name in SPEC.camera_names]
        self.states = StateWriter(memory)
        thoughts, chunks = slot_memory(SPAWN, THOUGHT_BYTES), slot_memory(SPAWN, CHUNK_BYTES)
        instruction = slot_memory(SPAWN, 1 << 10)
        self.mailbox, self.chunks, self.asked = SharedMailbox(thoughts), Slot(chunks), Slot(instruction)
        port, mailbox = ChunkPort(SPEC, chunks), SharedMailbox(thoughts)
        self.loop = FastLoop(
            self.policy, SPEC, Senses(SPEC, memory), Slot(instruction), mailbox, port, FastSettings(), lambda: self.now
        )

    def see(self, stamp, joint=0.0, shades=(0, 0)):
        self.states.put(stamp, np.full(SPEC.state_size, joint, np.float32))
        for camera, shade in zip(self.cameras, shades, strict=True):
            camera.put(stamp, np.full((96, 96, 3), shade, np.uint8))

    def think(self, stamp, instruction_id=0):
        self.mailbox.put(Thought(np.zeros((2, 3), np.float32), stamp, instruction_id))

    def sent(self):
        message = self.chunks.take()
        return None if message is None else unpack_chunk(message)


@pytest.fixture
def world():
    world = World()
    world.asked.put(Instruction(0, "left").pack())
    world.see(99.98)
    world.think(99.5)
    return world


def test_a_chunk_begins_when_its_images_were_taken(world):
    report = world.loop.turn()
    chunk = world.sent()
    assert chunk.start == 99.98 and len(chunk.actions) == 16
    assert report.ms is not None and report.waits is None
    assert report.age_s == pytest.approx(0.5) and report.image_age_s == pytest.approx(0.02)
    assert world.policy.ages[-1] == pytest.approx(0.48), "S1 is told the age at the time of its images"


def test_the_next_one_is_planned_after_the_replan_steps_and_from_a_new_image(world):
    world.loop.turn()
    world.now += 3.9 * STEP
    world.see(world.now)
    assert world.loop.turn().ms is None
    world.now += 0.2 * STEP
    assert world.loop.turn().ms is not None
    world.now += 5 * STEP
    assert world.loop.turn().ms is None, "there is nothing new to see"


def test_s1_is_told_what_the_robot_does_until_its_chunk_can_arrive(world):
    world.policy.takes = 1.2 * STEP
    world.loop.turn()
    world.now = 99.98 + 6.5 * STEP
    world.see(99.98 + 5.5 * STEP)
    report = world.loop.turn()
    # One step has passed since the image, it took 1.2 steps last time, and a tenth is on the way.
    assert report.delay == 3 and not report.late
    rows = world.policy.prefixes[-1][:, 0]
    assert rows == pytest.approx([0.0055, 0.0065, 0.0075]), "half of one row, half of the next"


def test_one_slow_chunk_is_not_expected_of_those_that_follow(world):
    for takes in (0.2, 4, 0.2, 0.2, 0.2, 0.2):
        world.policy.takes = takes * STEP
        report = world.loop.turn()
        world.now += 5 * STEP
        world.see(world.now - 0.1 * STEP)
    assert report.delay == 1 and not report.late


def test_one_that_takes_longer_than_foreseen_is_reported_and_followed_from_when_it_comes(world):
    world.loop.turn()
    world.now += 4 * STEP
    world.see(world.now)
    world.policy.takes = 5 * STEP
    assert world.loop.turn().late
    world.see(world.now)
    world.policy.takes = 0.0
    world.loop.turn()
    rows = world.policy.prefixes[-1][:3, 0]
    assert rows == pytest.approx([0.0094, 0.006, 0.007]), "the one before, and from the next sample the late one"


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (lambda world: world.asked.put(Instruction(1, "right").pack()), "no thought"),
        (lambda world: (setattr(world, "now", 104.6), world.see(104.6)), "old thought"),
        (lambda world: setattr(world, "now", 100.6), "old images"),
    ],
)
def test_what_cannot_be_acted_upon_holds_once_and_is_told(world, prepare, why):
    world.loop.turn()
    world.sent()
    prepare(world)
    assert world.loop.turn().waits == why
    assert len(world.sent().actions) == 0, "a chunk without rows: hold"
    assert world.loop.turn().waits == why and world.sent() is None
    world.see(world.now)
    world.think(world.now, 1 if why == "no thought" else 0)
    report = world.loop.turn()
    assert report.waits is None and len(world.sent().actions) == 16, "and goes on when the reason is gone"


def test_a_camera_that_repeats_itself_while_the_robot_moves_is_not_believed(world):
    def moved(share, shades):
        world.now += 0.1
        world.see(world.now, share, shades)
        world.think(world.now)
        return world.loop.turn().waits

    assert [moved(0.1 * i, (i, i)) for i in range(8)] == 8 * [None]
    waits = [moved(0.7 + 0.1 * i, (8 + i, 7)) for i in range(8)]
    assert waits[:4] == 4 * [None] and waits[-1] == f"camera {SPEC.camera_names[1]} is stuck"
    assert moved(1.4, (16, 8)) is None, "and believed when it shows something new"
    assert [moved(1.4, (16, 8)) for _ in range(10)] == 10 * [None], "a robot at rest sees the same again"


def test_a_chunk_that_is_not_finite_is_not_sent(world):
    world.policy.value = np.nan
    report = world.loop.turn()
    assert "non_finite.ee_translation" in report.refused and not len(world.sent().actions)


def test_while_the_policy_is_out_of_reach_what_was_sent_goes_on_and_it_is_asked_again_now_and_then(world):
    world.loop.turn()
    world.sent()
    world.policy.away, asked = True, world.policy.asked
    world.now += 4 * STEP
    world.see(world.now)
    for _ in range(10):
        report = world.loop.turn()
        assert (report.away, report.waits, report.ms) == ("nobody there", None, None)
        assert world.sent() is None, "no hold: the chunk goes on"
        world.now += 0.015
    assert world.policy.asked == asked + 2, "at once, and after 0.1 s"
    world.now = 99.98 + 16.5 * STEP
    world.see(world.now)
    assert world.loop.turn().waits == "no server", "the chunk is used up"
    world.policy.away = False
    world.now += 0.11
    assert world.loop.turn().ms is not None and len(world.sent().actions) == 16


def test_a_policy_that_is_out_of_reach_from_the_start_is_gone_on_with_when_it_comes(world):
    world.policy.away = True
    assert world.loop.turn().waits == "no server"
    world.policy.away = False
    world.now += 0.11
    world.see(world.now)
    assert world.loop.turn().ms is not None and len(world.sent().actions) == 16
