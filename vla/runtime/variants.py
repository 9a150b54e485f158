"""Other ways to run the same policy, to see what two speeds and a second look are worth."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from vla.robots.base import Observation, Robot
from vla.runtime.clock import EPSILON
from vla.runtime.loop import ControlLoop, Decision, Policy, Timing
from vla.runtime.stitcher import Chunk
from vla.runtime.timed import Images

if TYPE_CHECKING:
    from vla.s2.thought import Thought

Variant = Literal["two-speed", "frozen", "blind", "deaf", "synchronous", "no-thoughts"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


def build_loop(variant: Variant, policy: Policy, robot: Robot, timing: Timing, **options: Any) -> ControlLoop:
    """A loop for one episode. Raises UserError as `ControlLoop` does.

    two-speed: as deployed. frozen: S2 thinks once, in its first look; that thought only ages. blind: S2 reads the
    instruction over a black image. deaf: S2 sees, but every word it hears is nonsense. synchronous: one rate; S1 waits
    for S2, and the robot for both. no-thoughts: S1 alone, its latents "none yet".
    """
    if wrap := _WRAPS.get(variant):
        policy = wrap(policy)
    make = SynchronousLoop if variant == "synchronous" else ControlLoop
    return make(policy, robot, timing, use_thoughts=variant != "no-thoughts", **options)


class _Wrapped:
    """A policy but for its `think`."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.spec, self.config, self.act = policy.spec, policy.config, policy.act
        self.frames = getattr(policy, "frames", 1)


class Frozen(_Wrapped):
    """Its first thought is its only one, whatever is asked later."""

    _first: Thought | None = None

    def think(
        self, images: Images, instruction: str, stamp: float, instruction_id: int = 0, words: bool = False
    ) -> Thought:
        if self._first is None:
            self._first = self._policy.think(images, instruction, stamp, instruction_id, words)
        return replace(self._first, instruction_id=instruction_id)


class Blind(_Wrapped):
    """S2 hears but does not see; S1 keeps its eyes."""

    def think(
        self, images: Images, instruction: str, stamp: float, instruction_id: int = 0, words: bool = False
    ) -> Thought:
        black = {name: np.zeros_like(image) for name, image in images.items()}
        return self._policy.think(black, instruction, stamp, instruction_id, words)


class Deaf(_Wrapped):
    """S2 sees, but all it hears is nonsense: what it then does owes nothing to the words."""

    def think(
        self, images: Images, instruction: str, stamp: float, instruction_id: int = 0, words: bool = False
    ) -> Thought:
        return self._policy.think(images, nonsense(instruction), stamp, instruction_id, words)


def nonsense(text: str) -> str:
    """Every word replaced by one that does not exist, the same word always by the same."""
    return " ".join(_nonsense_word(word) for word in text.split())


def _nonsense_word(word: str) -> str:
    number, syllables = zlib.crc32(word.encode()), ""
    for _ in range(2):
        number, consonant = divmod(number, len(_CONSONANTS))
        number, vowel = divmod(number, len(_VOWELS))
        syllables += _CONSONANTS[consonant] + _VOWELS[vowel]
    return f"{syllables}k"


_CONSONANTS, _VOWELS = "bdfgjkmpvwz", "aeiou"
_WRAPS: dict[str, Callable[[Policy], Policy]] = {"frozen": Frozen, "blind": Blind, "deaf": Deaf}


class SynchronousLoop(ControlLoop):
    """One rate: look, wait for S2 and then for S1, act, look again. While they compute the robot holds.

    It acts for twice as long as it waits, if the chunk is that long, and at least for the policy's replan steps.
    """

    def _decide(self, step: int, now: float, observation: Observation, due: bool) -> Decision:
        if due:
            self._thought = self._think(now, observation.images)
            rate, timing = self._robot.spec.rate_hz, self.timing
            wait = math.ceil(timing.s2_delay * rate - EPSILON) + timing.s1_delay
            nothing = np.zeros((0, self._robot.spec.action_size), np.float32)
            actions = self._pilot.act(observation, self._thought, now, nothing, tuple(self._pilot.past))
            self._stitcher.drop()
            self._stitcher.commit(Chunk(capture=step + wait, effective=step + wait, actions=actions))
            self._replan_at = step + wait + min(len(actions), max(self._pilot.replan_steps, 2 * wait))
            self._acts_from = step + wait
        held = step < self._acts_from
        self.trace.holds += held
        return Decision(self._stitcher.next(step), self._thought, self._thought.age(now), held)
