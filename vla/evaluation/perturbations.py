"""What an evaluation can change about an episode: the words, or what is seen; never motion, nor what success is."""

from collections.abc import Sequence
from typing import Literal

from vla.errors import UserError

Words = Literal["paraphrase", "swap"]

PERTURBATIONS = {
    "paraphrase": "the same asked for in words that no demonstration uses",
    "swap": "another object of the scene asked for, or, where a scene has one task only, another task",
    "distractors": "three to five things of other colours and shapes stand about, to be seen only",
    "light": "brighter or darker, tinted, from elsewhere",
    "camera": "the fixed cameras moved by 2 to 5 cm and turned by 1 to 3 degrees",
}
WORDS: tuple[Words, ...] = ("paraphrase", "swap")


def words_of(perturb: Sequence[str]) -> Words | None:
    """The one of them that changes the words, if any; UserError if two do, or one does not exist."""
    for name in perturb:
        if name not in PERTURBATIONS:
            raise UserError(f"unknown perturbation {name!r}; there are: {', '.join(PERTURBATIONS)}")
    found = [name for name in WORDS if name in perturb]
    if len(found) > 1:
        raise UserError(f"--perturb {' '.join(found)}: each changes the instruction; choose one")
    return found[0] if found else None


def looks_of(perturb: Sequence[str]) -> tuple[str, ...]:
    """Those of them that change the pictures."""
    return tuple(name for name in PERTURBATIONS if name in perturb and name not in WORDS)
