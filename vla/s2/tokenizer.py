"""Words and places as tokens.

A byte-level BPE trained on the project's own sentences: every word it knows is one token, and any other text
falls back to shorter pieces, at worst bytes, so nothing a person types can crash S2. Places are tokens of their own
(`vla.s2.places`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from vla.s2.places import PLACE_TOKENS

PAD, START, END, IMAGE = "<pad>", "<s>", "</s>", "<image>"

_NO_SPACE_BEFORE_PLACE = re.compile(r"(?<=[^\s>])(?=<loc\d\d>)")
_SPACE_BEFORE_MARK = re.compile(r"\s+(?=[,.?!])")


def train_tokenizer(sentences: Iterable[str], vocabulary: int = 1536) -> PreTrainedTokenizerFast:
    """A tokenizer for these sentences, with numbers up to 100; deterministic in their order."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [AddedToken(token, special=True, normalized=False) for token in (PAD, START, END, IMAGE)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    without_places = (re.sub(r"<loc\d\d>", " ", sentence) for sentence in sentences)
    tokenizer.train_from_iterator([*without_places, *(str(n) for n in range(101))], trainer)
    # lstrip: the space before a place is no token of its own. Not special, so that decoding keeps them.
    tokenizer.add_tokens([AddedToken(token, lstrip=True, normalized=False) for token in PLACE_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def decode(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    """Text of one answer, without special tokens and with single spaces between words and places."""
    text = str(tokenizer.decode(list(ids), skip_special_tokens=True))
    return " ".join(_SPACE_BEFORE_MARK.sub("", _NO_SPACE_BEFORE_PLACE.sub(" ", text)).split())
