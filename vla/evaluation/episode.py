"""One episode of a policy in a simulated world, from seed to result."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from vla.evaluation import instructions
from vla.robots.base import SimulatedRobot
from vla.runtime.loop import Policy, Timing
from vla.runtime.telemetry import StepView, Trace
from vla.runtime.variants import Variant, build_loop

Choice = Literal["given", "swap", "paraphrase", "tour"]


@dataclass(frozen=True)
class Play:
    """How episodes are played.

    choice: follow the scene's own instruction, one about something else ("swap"), the same in other words
    ("paraphrase"), or each family in turn ("tour").
    variant: as in `build_loop`. words_every: as in `ControlLoop`. seconds: the longest, None leaves it to the scene.
    """

    timing: Timing = field(default_factory=Timing)
    choice: Choice = "given"
    variant: Variant = "two-speed"
    words_every: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class EpisodeResult:
    """What came of one episode; plain values only, so that it travels as JSON.

    instruction: the last one; split: of its words. original: the one it replaced. words: what S2 said first,
    with its place tokens.
    s1_ms, s2_ms, s2_age_s, counts: as in `Trace`. delays: in real time, what S2 took from the capture of its images on
    and the time between two looks, s2_delay and s2_period (s), and for how long S1's chunks were committed, s1_delay
    (control steps). limited: in real time, how many commands each rule of the safety gate changed.
    """

    index: int
    seed: int
    family: str
    split: str
    instruction: str
    original: str | None
    success: bool
    steps: int
    words: str | None
    s1_ms: list[float]
    s2_ms: list[float]
    s2_age_s: list[float]
    counts: dict[str, int]
    delays: dict[str, list[float]] = field(default_factory=dict)
    limited: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Onlooker(Protocol):
    """Watches episodes: `begin` after each reset, `add` after each control step."""

    def begin(self) -> None: ...

    def add(self, view: StepView) -> None: ...


def play_episode(
    policy: Policy,
    robot: SimulatedRobot,
    play: Play,
    seed: int,
    index: int = 0,
    instruction: str | None = None,
    recorder: Onlooker | None = None,
) -> EpisodeResult:
    """Reset to `seed` and follow `instruction`, or what `play.choice` picks, to success or the step limit.

    The result depends on policy, play, seed and index alone: torch's generators are seeded too, for heads that sample.
    Raises UserError if the instruction is impossible in the scene, or the policy is for another robot.
    """
    import torch

    torch.manual_seed(seed)
    robot.reset(seed)
    if recorder is not None:
        recorder.begin()
    given = robot.instruction
    stranger = instructions.stranger(robot, seed) if play.choice == "swap" and not instruction else None
    wanted = instruction or stranger or choose(robot, play.choice, seed, index)
    if wanted not in (given, stranger):
        robot.set_instruction(wanted)
    asked, possible = robot.instruction, robot.instructions()  # what is done by the end cannot be asked any more
    unparaphrased = count_unparaphrased(robot, play.choice)
    loop = build_loop(
        play.variant,
        policy,
        robot,
        play.timing,
        words_every=play.words_every,
        on_step=recorder.add if recorder is not None else None,
    )
    steps = robot.max_steps
    if play.seconds is not None:
        steps = min(steps, math.ceil(play.seconds * robot.spec.rate_hz))

    def listen() -> str:
        nonlocal asked
        if robot.instruction != asked:  # a mind was changed, maybe to what could not be asked before
            asked = robot.instruction
            possible.extend(robot.instructions())
        return asked

    with torch.inference_mode():
        trace = loop.run(stranger or listen, steps, lambda: robot.finished)
    told = stranger or robot.instruction
    return EpisodeResult(
        index=index,
        seed=seed,
        family=robot.family,
        split=instructions.split_of(robot.instruction, possible),
        instruction=told,
        original=replaced(told, wanted, given, play.choice),
        success=robot.success,
        steps=trace.steps,
        words=_first_words(trace),
        s1_ms=trace.s1_ms,
        s2_ms=trace.s2_ms,
        s2_age_s=trace.s2_age_s,
        counts=dict(trace.counts()) | unparaphrased,
    )


def warm_up(policy: Policy, robot: SimulatedRobot) -> None:
    """Run both halves once, so that the first episode's latencies are not those of lazy initialisation."""
    observation = robot.reset(0)
    thought = policy.think(observation.images, robot.instruction, 0.0)
    nothing = np.zeros((0, robot.spec.action_size), np.float32)
    policy.act(observation.images, observation.state, thought, 0.0, nothing)


def choose(robot: SimulatedRobot, choice: Choice, seed: int, index: int) -> str:
    """What to ask in the scene that the robot has been reset to."""
    if choice == "swap":
        return instructions.swap_target(robot, seed)
    if choice == "paraphrase":
        return instructions.paraphrase(robot, seed)
    if choice == "tour":
        return instructions.tour(robot, seed, index)
    return robot.instruction


def count_unparaphrased(robot: SimulatedRobot, choice: Choice) -> dict[str, int]:
    """Whether other words are wanted of an episode that has none, for `EpisodeResult.counts`: before it is played."""
    return {"unparaphrased": int(not robot.paraphrases())} if choice == "paraphrase" else {}


def replaced(last: str, first: str, given: str, choice: Choice) -> str | None:
    """The instruction that the last one took the place of, if it did."""
    if last != first:
        return first
    return given if choice in ("swap", "paraphrase") and first != given else None


def _first_words(trace: Trace) -> str | None:
    return trace.words[0].text if trace.words else None
