"""One message between two processes: the newest, whole, or none."""

import multiprocessing

import pytest

from vla.shared_slot import Slot, slot_memory


@pytest.fixture
def memory():
    return slot_memory(multiprocessing.get_context("spawn"), 64)


def test_what_one_end_puts_the_other_takes_once(memory):
    writer, reader = Slot(memory), Slot(memory)
    assert reader.take() is None
    writer.put(b"hello")
    assert reader.take() == b"hello" and reader.take() is None


def test_the_newest_wins_and_the_writer_never_waits(memory):
    writer, reader = Slot(memory), Slot(memory)
    for i in range(100):
        writer.put(b"%d" % i)
    assert reader.take() == b"99"


@pytest.mark.parametrize("place", range(17))
def test_a_message_cut_off_anywhere_is_never_read(memory, place):
    writer, reader = Slot(memory), Slot(memory)
    writer.put(b"x" * 20)
    whole = bytes(memory)
    writer.put(b"whole")
    assert reader.take() == b"whole"
    # The writer died inside its third message, which goes where the first was.
    writer.put(b"y" * 20)
    third, half = bytes(memory), len(whole) // 2
    for i in range(half, len(whole)):
        memory[i] = whole[i]
    cut = half + 2 * place + 1
    for i in range(half, cut):
        memory[i] = third[i]
    assert reader.take() is None


def test_a_message_too_long_is_refused(memory):
    with pytest.raises(ValueError, match="65 bytes does not fit into 64"):
        Slot(memory).put(b"x" * 65)


def test_a_slot_of_many_places_gives_all_that_is_new_in_order_and_lets_one_look_back():
    memory = slot_memory(multiprocessing.get_context("spawn"), 64, places=4)
    writer, reader = Slot(memory, 4), Slot(memory, 4)
    for i in range(3):
        writer.put(b"%d" % i)
    assert reader.take_all() == [b"0", b"1", b"2"] and reader.take_all() == []
    for i in range(3, 9):
        writer.put(b"%d" % i)
    assert reader.take_all() == [b"5", b"6", b"7", b"8"], "the newest, as many as there are places"
    assert reader.held() == [b"5", b"6", b"7", b"8"] and reader.take() is None


def test_a_writer_that_is_started_again_goes_on_where_the_first_one_was(memory):
    reader = Slot(memory)
    Slot(memory).put(b"one")
    assert reader.take() == b"one"
    Slot(memory).put(b"two")
    assert reader.take() == b"two"
