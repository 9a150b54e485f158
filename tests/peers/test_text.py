"""Instructions as numbers, without a language model."""

import numpy as np
import pytest

from vla.peers.text import SIZE, embed_text


def cosine(one: str, two: str) -> float:
    return float(embed_text(one) @ embed_text(two)) / SIZE


def test_the_same_words_are_the_same_vector_however_they_are_written():
    assert np.array_equal(embed_text("Lift the red cube."), embed_text("lift  the RED cube"))
    assert np.linalg.norm(embed_text("lift the red cube", 32)) == pytest.approx(32**0.5, rel=1e-5)
    assert not embed_text("...").any()


def test_the_order_of_words_tells_and_shared_words_are_near():
    given = "put the red cube in the blue tray"
    assert cosine(given, "put the blue cube in the red tray") < 0.95
    assert cosine(given, "put the red cube in the green tray") > 0.6
    assert abs(cosine(given, "open a drawer")) < 0.3


def test_it_is_frozen():
    np.testing.assert_allclose(embed_text("lift", 4), FROZEN, atol=1e-5)


FROZEN = [0.395875, -0.149165, -1.810058, -0.738052]
