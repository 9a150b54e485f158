import numpy as np

from vla.runtime.stitcher import Chunk, Stitcher

REST = np.array([-1.0], np.float32)


def rows(first: int, count: int) -> np.ndarray:
    """Row i of the chunk captured at step k carries the value 100 k + i."""
    return (first + np.arange(count, dtype=np.float32))[:, None]


def stitcher() -> Stitcher:
    return Stitcher(lambda last: -abs(last), REST)


def test_chunks_are_indexed_by_capture_not_by_arrival():
    stitch = stitcher()
    stitch.commit(Chunk(capture=0, effective=3, actions=rows(0, 8)))
    sent = [stitch.next(step).item() for step in range(6)]
    assert sent == [-1, -1, -1, 3, 4, 5]


def test_the_old_chunk_drives_until_the_new_one_is_effective():
    stitch = stitcher()
    stitch.commit(Chunk(0, 0, rows(0, 8)))
    sent = []
    for step in range(8):
        if step == 4:
            stitch.commit(Chunk(4, 6, rows(400, 8)))
        sent.append(stitch.next(step).item())
    assert sent == [0, 1, 2, 3, 4, 5, 402, 403]


def test_the_prefix_is_what_will_really_be_sent():
    stitch = stitcher()
    assert stitch.prefix(0, 2).tolist() == [[-1], [-1]]
    stitch.commit(Chunk(0, 0, rows(1, 6)))
    sent = [stitch.next(step) for step in range(4)]
    prefix = stitch.prefix(4, 4)
    assert sent[-1].item() == 4
    assert prefix.tolist() == [[5], [6], [-6], [-6]]
    assert np.array_equal(prefix, [stitch.next(step) for step in range(4, 8)])


def test_no_delay_gives_an_empty_prefix():
    assert stitcher().prefix(3, 0).shape == (0, 1)


def test_a_chunk_that_runs_out_holds_and_is_counted():
    stitch = stitcher()
    stitch.commit(Chunk(0, 0, rows(1, 2)))
    assert [stitch.next(step).item() for step in range(4)] == [1, 2, -2, -2]
    assert stitch.starvations == 2


def test_waiting_for_the_first_chunk_is_no_starvation():
    stitch = stitcher()
    stitch.next(0)
    assert stitch.starvations == 0


def test_dropped_chunks_do_not_come_back():
    stitch = stitcher()
    stitch.commit(Chunk(0, 0, rows(1, 8)))
    stitch.next(0)
    stitch.commit(Chunk(1, 3, rows(100, 8)))
    stitch.drop()
    assert [stitch.next(step).item() for step in range(1, 5)] == [-1, -1, -1, -1]


def test_a_control_period_across_two_rows_gets_its_share_of_each():
    stitch = stitcher()
    stitch.commit(Chunk(capture=10.25, effective=10.25, actions=rows(1, 4)))
    assert stitch.prefix(10.75, 4).tolist() == [[1.5], [2.5], [3.5], [-3.5]]
    assert stitch.prefix(11.25, 2).tolist() == [[2], [3]]
    assert stitch.next(10.75).item() == 1.5
