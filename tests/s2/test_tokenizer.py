"""S2's tokenizer knows the project's words, and survives every other text."""

import pytest

from vla.s2.places import place_words, places_in
from vla.s2.tokenizer import decode, train_tokenizer

SENTENCES = [
    "push the red cube to the left",
    "what do you see, and where?",
    "a red cube at <loc12><loc40>, a blue ball at <loc00><loc63>",
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(SENTENCES)


def ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


def test_every_known_word_is_one_token(tokenizer):
    assert len(ids(tokenizer, "push the red cube to the left")) == 7
    assert len(ids(tokenizer, "the red cube <loc12><loc40>")) == 5
    assert len(ids(tokenizer, "73")) == 1


@pytest.mark.parametrize("text", ["Schiebe den Würfel 🧊 nach links!", "", "\x00\t\n", "<loc", "红色方块", "a" * 500])
def test_unknown_text_is_read_and_comes_back(tokenizer, text):
    import unicodedata

    expected = " ".join(unicodedata.normalize("NFKC", text).lower().split())
    assert decode(tokenizer, ids(tokenizer, text)) == expected


def test_case_does_not_matter(tokenizer):
    assert ids(tokenizer, "Push the RED cube") == ids(tokenizer, "push the red cube")


@pytest.mark.parametrize("text", [SENTENCES[2], "the red cube <loc12><loc40> 12", "<loc07><loc08>"])
def test_words_and_places_come_back_as_written(tokenizer, text):
    assert decode(tokenizer, ids(tokenizer, text)) == text


def test_special_tokens_are_not_spoken(tokenizer):
    assert decode(tokenizer, [tokenizer.bos_token_id, *ids(tokenizer, "red"), tokenizer.eos_token_id]) == "red"


def test_a_place_is_named_to_a_64th_of_the_image():
    assert place_words(0.5, 0.0) == "<loc32><loc00>"
    assert place_words(1.0, -0.2) == "<loc63><loc00>"
    [(u, v)] = places_in(f"the red cube {place_words(0.3, 0.7)}")
    assert abs(u - 0.3) < 1 / 128 and abs(v - 0.7) < 1 / 128


def test_training_is_deterministic():
    assert train_tokenizer(SENTENCES).get_vocab() == train_tokenizer(SENTENCES).get_vocab()
