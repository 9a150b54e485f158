import torch

from vla.runtime.clock import SimClock, reached
from vla.runtime.mailbox import Mailbox
from vla.s2.thought import Thought


def thought(stamp: float, instruction_id: int = 0) -> Thought:
    return Thought(torch.zeros(2, 3), stamp, instruction_id)


def test_an_empty_mailbox_has_no_thought():
    assert Mailbox().newest(0) is None


def test_the_newest_capture_wins_whatever_arrives_last():
    box = Mailbox()
    assert box.put(thought(0.4))
    assert not box.put(thought(0.2))
    newest = box.newest(0)
    assert newest is not None and newest.stamp == 0.4


def test_a_thought_about_an_older_instruction_is_not_used():
    box = Mailbox()
    box.put(thought(0.4, instruction_id=0))
    assert box.newest(1) is None


def test_a_late_thought_about_the_old_instruction_does_not_push_out_the_new_one():
    box = Mailbox()
    box.put(thought(0.4, instruction_id=1))
    assert not box.put(thought(0.5, instruction_id=0))
    assert box.newest(1) is not None


def test_simulated_time_does_not_drift():
    clock = SimClock(20)
    for _ in range(200_000):
        clock.tick()
    assert clock.now == 10_000


def test_moments_are_reached_in_spite_of_rounding():
    assert 0.1 + 0.2 != 0.3
    assert reached(0.3, 0.1 + 0.2) and reached(6 / 20, 0.1 + 0.2)
    assert not reached(0.25, 0.3)
