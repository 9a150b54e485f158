"""Normalisation: percentiles to [-1, 1], and back."""

import numpy as np
import pytest

from vla.actions.normalize import Normalizer, Quantiles
from vla.errors import UserError


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal([0.0, 5.0, -2.0], [1.0, 0.1, 0.01], (4000, 3)).astype(np.float32)


def test_percentiles_become_plus_and_minus_one(values) -> None:
    scaled = Quantiles.fit(values, clip=10).normalize(values)
    np.testing.assert_allclose(np.quantile(scaled, [0.01, 0.99], axis=0), [[-1] * 3, [1] * 3], atol=1e-3)


def test_comes_back_unless_clipped(values) -> None:
    quantiles = Quantiles.fit(values, clip=1.5)
    scaled = quantiles.normalize(values)
    assert np.abs(scaled).max() == 1.5
    inside = (np.abs(scaled) < 1.5).all(1)
    assert inside.mean() > 0.95
    np.testing.assert_allclose(quantiles.denormalize(scaled)[inside], values[inside], atol=1e-4)
    assert (quantiles.denormalize(np.full(3, 99.0)) <= quantiles.denormalize(np.full(3, 1.5))).all()


def test_a_constant_dimension_is_zero_and_comes_back_exactly() -> None:
    constant = np.stack([np.full(100, 0.25), np.random.default_rng(0).normal(0, 1e-6, 100), np.arange(100)], 1)
    quantiles = Quantiles.fit(constant, clip=1.5)
    scaled = quantiles.normalize(constant)
    assert (scaled[:, :2] == 0).all() and scaled.dtype == np.float32
    # A model's noise about zero must not move a joint that never moved.
    back = quantiles.denormalize(scaled + 0.3)
    np.testing.assert_allclose(back[:, 0], 0.25, atol=1e-6)
    np.testing.assert_allclose(back[:, 1], 0, atol=1e-5)


def test_what_is_rare_is_no_constant() -> None:
    presses = np.zeros((1000, 1), np.float32)
    presses[:5] = 1
    quantiles = Quantiles.fit(presses, clip=1.5)
    np.testing.assert_allclose(quantiles.denormalize(quantiles.normalize(presses)), presses, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_none_is_named(values, value) -> None:
    actions = values.copy()
    actions[70, 1] = actions[90, 0] = value
    with pytest.raises(UserError, match=rf"action\[1\] is {value} in frame 70 \(2 such values\); vla data doctor"):
        Normalizer.fit(values, actions)


def test_survives_json(values) -> None:
    normalizer = Normalizer.fit(values, values[:, :2])
    again = Normalizer.from_dict(normalizer.to_dict())
    np.testing.assert_array_equal(again.state.normalize(values), normalizer.state.normalize(values))
    assert again.action.size == 2 and again.state.clip > again.action.clip


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop("action"), "must hold state and action"),
        (lambda d: d["state"].pop("q01"), "state: needs lists q01"),
        (lambda d: d["state"]["q01"].pop(), "finite lists of one length"),
        (lambda d: d["action"]["q99"].__setitem__(0, float("nan")), "action: q01 and q99 must be finite"),
    ],
)
def test_damage_is_named(values, damage, message) -> None:
    data = Normalizer.fit(values, values).to_dict()
    damage(data)
    with pytest.raises(UserError, match=message):
        Normalizer.from_dict(data)
