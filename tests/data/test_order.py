"""The order of samples: permutations that can be entered anywhere, and exact shares."""

import numpy as np
import pytest

from vla.data.order import BLOCK, MixedOrder, permuted


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 65, 1000, 4097])
def test_a_permutation_takes_every_place_once(size):
    assert sorted(permuted(np.arange(size), size, (7, 1))) == list(range(size))


def test_permutations_are_entered_anywhere_and_differ_by_key():
    whole = permuted(np.arange(1000), 1000, (7,))
    assert np.array_equal(permuted(np.array([999, 3, 500]), 1000, (7,)), whole[[999, 3, 500]])
    assert (permuted(np.arange(1000), 1000, (8,)) != whole).mean() > 0.9


def test_neighbours_are_not_drawn_together():
    whole = permuted(np.arange(20_000), 20_000, (7,))
    assert abs(np.corrcoef(whole, np.arange(20_000))[0, 1]) < 0.03
    assert abs(np.corrcoef(whole[1:], whole[:-1])[0, 1]) < 0.03
    assert (np.abs(np.diff(whole)) <= 2).mean() < 0.002


def test_one_dataset_is_gone_through_once_an_epoch():
    order = MixedOrder((700,), (1.0,), seed=0)
    _, frames = order.at(np.arange(3 * 700))
    epochs = frames.reshape(3, 700)
    assert (np.sort(epochs, axis=1) == np.arange(700)).all()
    assert not np.array_equal(epochs[0], epochs[1])


def test_shares_are_exact_and_no_frame_comes_again_before_all_have_come():
    order = MixedOrder((600, 2000, 150), (1.0, 2.0, 0.001), seed=1)
    which, frames = order.at(np.arange(BLOCK // 2, BLOCK // 2 + BLOCK))
    assert np.bincount(which) / BLOCK == pytest.approx(np.array([1, 2, 0.001]) / 3.001, abs=2e-3)
    assert order.quotas.sum() == BLOCK
    assert order.quotas / BLOCK == pytest.approx(np.array([1, 2, 0.001]) / 3.001, abs=1 / BLOCK)
    which, frames = order.at(np.arange(BLOCK))
    for i, size in enumerate(order.sizes):
        counts = np.bincount(frames[which == i], minlength=size)
        assert counts.max() - counts.min() <= 1


def test_any_part_of_an_order_is_the_same_as_in_the_whole():
    order = MixedOrder((600, 2000), (1.0, 3.0), seed=1)
    whole = np.stack(order.at(np.arange(9000)))
    for start in (0, 4000, 8990):
        assert np.array_equal(np.stack(order.at(np.arange(start, start + 10))), whole[:, start : start + 10])


def test_tiny_weights_get_a_draw_each():
    quotas = MixedOrder((10,) * 51, (1.0, *[1e-9] * 50), seed=0).quotas
    assert quotas.sum() == BLOCK and quotas.min() == 1


def test_what_cannot_be_drawn_from_is_refused():
    for sizes, weights in (((), ()), ((0,), (1.0,)), ((5,), (0.0,)), ((5,), (float("nan"),)), ((5, 5), (1.0,))):
        with pytest.raises(ValueError, match="sizes and weights above 0"):
            MixedOrder(sizes, weights, 0)
