"""Places in the image as words: `<locUU><locVV>`, 00 to 63, first floor(64 u), then floor(64 v)."""

import re

PLACES = 64
PLACE_TOKENS = tuple(f"<loc{i:02d}>" for i in range(PLACES))

_PAIR = re.compile(r"<loc(\d\d)>\s*<loc(\d\d)>")
_MARK = re.compile(r"(?:\bat\s+)?(?:<loc\d\d>\s*)+")


def place_words(u: float, v: float) -> str:
    """(u, v) in [0, 1], right and down, as two place tokens; outside is clipped to the border."""
    column, row = (min(max(int(PLACES * x), 0), PLACES - 1) for x in (u, v))
    return PLACE_TOKENS[column] + PLACE_TOKENS[row]


def places_in(text: str) -> list[tuple[float, float]]:
    """Every (u, v) a text points at: the middle of the named cells, in [0, 1]."""
    return [((int(u) + 0.5) / PLACES, (int(v) + 0.5) / PLACES) for u, v in _PAIR.findall(text)]


def plain_words(words: str | None) -> str:
    """Without places, and the "at" before them: people see them drawn instead."""
    return " ".join(_MARK.sub(" ", words or "").split()).replace(" ,", ",")
