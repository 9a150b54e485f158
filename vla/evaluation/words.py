"""S2's words as people read them."""

import re


def plain_words(words: str | None) -> str:
    """Without place tokens, which are drawn instead."""
    return " ".join(re.sub(r"<loc\d\d>", " ", words or "").split())
