"""Bins: 256 of one width over [-1, 1], and what lies outside belongs to the last ones."""

import pytest
import torch

from vla.actions.bins import BINS, bin_centres, to_bins


def test_the_edges_are_where_they_should_be() -> None:
    values = torch.tensor([-1.0, -1 + 2 / 256, -1 + 2 / 256 - 1e-6, -1e-6, 0.0, 1 - 2 / 256, 1.0])
    assert to_bins(values).tolist() == [0, 1, 0, 127, 128, 255, 255]


def test_what_lies_outside_falls_into_the_end_bins() -> None:
    assert to_bins(torch.tensor([-torch.inf, -1.5, 1.5, torch.inf])).tolist() == [0, 0, 255, 255]


def test_every_centre_is_in_its_bin_and_half_a_bin_from_its_edges() -> None:
    bins = torch.arange(BINS)
    centres = bin_centres(bins)
    assert (to_bins(centres) == bins).all()
    assert centres[0].item() == pytest.approx(-1 + 1 / 256) and centres[-1].item() == pytest.approx(1 - 1 / 256)
    values = torch.linspace(-1, 1, 100_001)
    assert (bin_centres(to_bins(values)) - values).abs().max() <= 1 / 256 + 1e-6


def test_shape_is_kept_and_another_count_is_possible() -> None:
    values = torch.tensor([[-1.0, -0.1], [0.1, 1.0]])
    assert to_bins(values, 2).tolist() == [[0, 0], [1, 1]]
    assert bin_centres(to_bins(values, 2), 2).tolist() == [[-0.5, -0.5], [0.5, 0.5]]
