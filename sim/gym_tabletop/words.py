"""Questions and answers about a scene, from its true state: what teaches S2 to see and to mean what it says.

Only what the front image shows is asked about: a thing hidden by the arm is neither named nor counted. Left and
right are as seen in that image. A place in words is `<locUU><locVV>`: u and v in 64 steps, 00 to 63.

Short answers point before they speak: the places of what they are about come first, each after an "at", then the words.
Who reads the answer sees its grounds, and a small model that has found two things need not guess which is further left.
The "at" makes pointing on or not one choice, where the 64 place tokens would share its probability among them. And what
follows from two things is said after both ("left, so no"): side and order at once are an exclusive or, hard to learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

import numpy as np

from gym_tabletop.palette import COLOURS, PAIRS, SHAPES
from gym_tabletop.scene_truth import Instruction, Scene, Thing
from gym_tabletop.tasks import SUITE

KINDS = ("instruction", "subtask", "caption", "attribute", "count", "existence", "relation", "pointing")
PROBES = ("random", "popular", "adversarial")
"""Kinds of questions after what is not there (POPE, arXiv 2305.10355), for tests only: "existence-random", ..."""
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
LOC_STEPS = 64
HARD_TASKS = ("relation side", "relation in", "stages")
"""Asked for twice as often: what their words mean depends on more than one thing in the image."""
TOLD = 2
"""How often what the robot has been told is among the instructions, where others are asked for once."""
POPULAR = tuple(pair for pair in PAIRS if pair not in {task.held_out_pair for task in SUITE.values()})
"""Objects that every task is taught on."""
SUBTASK_PROMPT = "{}: what now?"
SIDE_MARGIN = 0.04
"""Things closer than this in u (fraction of the image width) are neither left nor right of each other."""

CAPTION_PROMPTS = ("describe the scene", "what is on the table?", "list the objects", "what do you see?")
PLACED_CAPTION_PROMPTS = (
    "describe the scene with places",
    "what is on the table, and where?",
    "list everything and where it is",
    "what do you see, and where?",
)
POINT_PROMPTS = ("point to the {}", "where is the {}?", "show me the {}", "locate the {}", "find the {}")
EXISTENCE_PROMPTS = ("is there a {}?", "do you see a {}?", "is a {} on the table?", "can you see a {}?")
COUNT_PROMPTS = ("how many {} are there?", "how many {} do you see?", "count the {}", "what is the number of {}?")
COLOUR_PROMPTS = ("what colour is the {}?", "what color is the {}?", "which colour does the {} have?")
SHAPE_PROMPTS = ("what shape is the {} object?", "what shape has the {} object?", "what kind of object is {}?")
HELD_PROMPTS = ("what is the gripper holding?", "what is in the hand?", "what does the robot hold?")
DRAWER_PROMPTS = ("is the drawer open or closed?", "is the drawer closed or open?", "how is the drawer?")
SIDE_PROMPTS = ("is the {} {} of the {}?", "is the {} to the {} of the {}?", "do you see the {} {} of the {}?")
WHAT_SIDE_PROMPTS = ("what is {} of the {}?", "which objects are {} of the {}?", "name what is {} of the {}")
FURTHER_PROMPTS = ("which is further {}, the {} or the {}?", "what is more to the {}, the {} or the {}?")


@dataclass(frozen=True)
class Question:
    """One prompt and the answer S2 should give; target and goal are (u, v) in [0, 1] of the front image.

    family: index of the task family of an instruction, -1 for everything else.
    """

    kind: str
    prompt: str
    answer: str
    target: tuple[float, float] | None = None
    goal: tuple[float, float] | None = None
    family: int = -1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def loc(pixel: tuple[float, float]) -> str:
    """`<locUU><locVV>` of (u, v) in [0, 1]; a point on the far edge counts as the last step."""
    u, v = (min(LOC_STEPS - 1, max(0, math.floor(LOC_STEPS * float(x)))) for x in pixel)
    return f"<loc{u:02d}><loc{v:02d}>"


def instruction_answer(target: str, pixel: tuple[float, float]) -> str:
    """What S2 says to an instruction: what it is about, and where that is."""
    return f"the {target} {loc(pixel)}"


@dataclass(frozen=True)
class Doing:
    """What the robot is at: its instruction, the step of it that is due in words, and how far it is, 0 to 1."""

    instruction: Instruction
    subtask: str
    progress: float


def make_questions(
    scene: Scene,
    instructions: Sequence[Instruction],
    families: Sequence[str],
    rng: np.random.Generator,
    doing: Doing | None = None,
) -> list[Question]:
    """About 18 questions on one scene, the same for the same `rng` state.

    instructions: all that are possible here; only those of split "train" are used, as of `doing`.
    families: names of the task families, in the order that `Question.family` counts.
    """
    view = _View(scene, Random(int(rng.integers(2**63))))
    makers: list[Callable[[], list[Question]]] = [
        lambda: _doing(view, doing, families),
        lambda: _instructions(view, instructions, families),
        lambda: _pointing(view),
        lambda: _captions(view),
        lambda: _existence(view),
        lambda: _probes(view),
        lambda: _attributes(view),
        lambda: _counts(view),
        lambda: _relations(view),
    ]
    return [question for make in makers for question in make()]


class _View:
    """What the front image shows of a scene, left to right, with a source of chance."""

    def __init__(self, scene: Scene, random: Random) -> None:
        self.random = random
        self.scene = scene
        self.things = sorted((t for t in scene.things if t.visible), key=lambda t: t.pixel[0])
        self.objects = [t for t in self.things if t.kind == "object"]
        self.trays = [t for t in self.things if t.kind == "tray"]
        self.hidden = [t for t in scene.things if not t.visible]
        names = [t.name for t in scene.things]
        self.named = [t for t in self.things if names.count(t.name) == 1]
        """Things that their name alone picks out."""

    def say(self, prompts: Sequence[str], *words: str) -> str:
        return self.random.choice(prompts).format(*words)

    def hides(self, **traits: str) -> bool:
        """Whether an object with these traits is there but not seen, so that the image cannot tell."""
        return any(t.kind == "object" and _has(t, traits) for t in self.hidden)


def _has(thing: Thing, traits: dict[str, str]) -> bool:
    return all(getattr(thing, key) == value for key, value in traits.items())


def _point(pixel: tuple[float, float]) -> tuple[float, float] | None:
    u, v = float(pixel[0]), float(pixel[1])
    return None if math.isnan(u) or math.isnan(v) else (round(u, 4), round(v, 4))


def _listed(items: Sequence[str]) -> str:
    if not items:
        return "nothing"
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _at(*things: Thing) -> str:
    """Where they are, as an answer begins."""
    return " ".join(f"at {loc(thing.pixel)}" for thing in things)


def _asked(item: Instruction, families: Sequence[str]) -> Question:
    return Question(
        kind="instruction",
        prompt=item.text,
        answer=instruction_answer(item.target, item.target_pixel),
        target=_point(item.target_pixel),
        goal=_point(item.goal_pixel),
        family=families.index(item.family),
    )


def _doing(view: _View, doing: Doing | None, families: Sequence[str]) -> list[Question]:
    """What the robot has been told, and how far it is with it: also where the arm is in front of what is due.

    At work it often is, and S2 must know what comes next by then; what else is asked is in view.
    """
    if doing is None or doing.instruction.split != "train":
        return []
    item = doing.instruction
    answer = f"at {loc(item.target_pixel)} {doing.subtask}, {10 * round(10 * doing.progress)} percent"
    told = _asked(item, families)
    return [told] * TOLD + [replace(told, kind="subtask", prompt=SUBTASK_PROMPT.format(item.text), answer=answer)]


def _instructions(view: _View, instructions: Sequence[Instruction], families: Sequence[str]) -> list[Question]:
    """Four to six, tasks evenly but for the hard ones, then targets, goals and phrasings evenly."""
    hidden = {t.name for t in view.hidden}
    tree: dict[str, dict[str, dict[str, list[Instruction]]]] = {}
    for item in instructions:
        if item.split == "train" and item.target not in hidden and item.goal not in hidden:
            asked = tree.setdefault(_way_of_asking(item), {})
            asked.setdefault(item.target, {}).setdefault(item.goal, []).append(item)
    if not tree:
        return []
    order = view.random.sample(sorted(tree), len(tree), counts=[1 + (task in HARD_TASKS) for task in sorted(tree)])
    used: set[tuple[str, str]] = set()
    questions = []
    for turn in range(view.random.randint(4, 6)):
        task = order[turn % len(order)]
        targets = sorted(tree[task])
        fresh = [t for t in targets if (task, t) not in used] or targets
        target = view.random.choice(fresh)
        used.add((task, target))
        goals = tree[task][target]
        item = view.random.choice(goals[view.random.choice(sorted(goals))])
        questions.append(_asked(item, families))
    return questions


def _way_of_asking(item: Instruction) -> str:
    """The task, and for an object that is only described, how it is: a rare kind is not drowned in a common one."""
    if not item.described:
        return item.task or item.family
    kinds = {"smallest": "size", "largest": "size", "object": "in"}
    return f"{item.task} {kinds.get(item.described.split()[0], 'side')}"


def _pointing(view: _View) -> list[Question]:
    picked = view.random.sample(view.named, min(len(view.named), view.random.randint(2, 3)))
    return [Question("pointing", view.say(POINT_PROMPTS, t.name), loc(t.pixel), target=_point(t.pixel)) for t in picked]


def _captions(view: _View) -> list[Question]:
    placed = ", ".join(f"a {t.name} {_at(t)}" for t in view.things) or "nothing"
    questions = [Question("caption", view.say(PLACED_CAPTION_PROMPTS), placed)]
    if view.random.random() < 0.5:
        short = _listed([f"a {t.name}" for t in view.things])
        questions.append(Question("caption", view.say(CAPTION_PROMPTS), short))
    return questions


def _existence(view: _View) -> list[Question]:
    """One yes and one no; the absent thing usually shares colour or shape with one that is there."""
    questions = []
    present = {t.name for t in view.scene.things}
    if view.objects:
        thing = view.random.choice(view.objects)
        questions.append(Question("existence", view.say(EXISTENCE_PROMPTS, thing.name), f"{_at(thing)} yes"))
    absent = [pair for pair in PAIRS if pair not in present]
    colours, shapes = {t.colour for t in view.objects}, {t.shape for t in view.objects}
    near = [pair for pair in absent if pair.split()[0] in colours or pair.split()[1] in shapes]
    if absent:
        name = view.random.choice(near if near and view.random.random() < 0.8 else absent)
        questions.append(Question("existence", view.say(EXISTENCE_PROMPTS, name), "no"))
    view.random.shuffle(questions)
    return questions


def _probes(view: _View) -> list[Question]:
    """Objects that are not there: any; one often asked for elsewhere; one put together of two that are there."""
    present = {t.name for t in view.scene.things}
    absent = [pair for pair in PAIRS if pair not in present]
    colours, shapes = {t.colour for t in view.objects}, {t.shape for t in view.objects}
    candidates = {
        "random": absent,
        "popular": [pair for pair in absent if pair in POPULAR],
        "adversarial": [pair for pair in absent if pair.split()[0] in colours and pair.split()[1] in shapes],
    }
    return [
        Question(f"existence-{kind}", view.say(EXISTENCE_PROMPTS, view.random.choice(pairs)), "no")
        for kind in PROBES
        if (pairs := candidates[kind])
    ]


def _attributes(view: _View) -> list[Question]:
    """Colour by shape or shape by colour, only where one thing can be meant; sometimes what the gripper holds."""
    found = []
    for shape in SHAPES:
        same = [t for t in view.objects if t.shape == shape]
        if len(same) == 1 and not view.hides(shape=shape):
            found.append((COLOUR_PROMPTS, shape, f"{_at(*same)} {same[0].colour}"))
    for colour in COLOURS:
        same = [t for t in view.objects if t.colour == colour]
        if len(same) == 1 and not view.hides(colour=colour):
            found.append((SHAPE_PROMPTS, colour, f"{_at(*same)} {same[0].shape}"))
    if len(view.trays) == 1 and not any(t.kind == "tray" for t in view.hidden):
        found.append((COLOUR_PROMPTS, "tray", f"{_at(*view.trays)} {view.trays[0].colour}"))
    picked = view.random.sample(found, min(len(found), view.random.randint(1, 2)))
    questions = [Question("attribute", view.say(prompts, what), answer) for prompts, what, answer in picked]
    if view.scene.opened is not None and view.random.random() < 0.4:
        answer = "open" if view.scene.opened > 0.5 else "closed"
        drawers = [t for t in view.things if t.kind == "drawer"]
        questions.append(Question("attribute", view.say(DRAWER_PROMPTS), f"{_at(*drawers)} {answer}".strip()))
    held = view.scene.held
    if view.random.random() < (0.5 if held else 0.1) and held not in {t.name for t in view.hidden}:
        answer = f"{_at(view.scene.find(held))} the {held}" if held else "nothing"
        questions.append(Question("attribute", view.say(HELD_PROMPTS), answer))
    return questions


def _counts(view: _View) -> list[Question]:
    """How many of a shape, of a colour, or in all, pointed at from left to right; at most one answer is "no"."""
    found = []
    for shape in SHAPES:
        if not view.hides(shape=shape):
            found.append((f"{shape}s", [t for t in view.objects if t.shape == shape]))
    for colour in COLOURS:
        if not view.hides(colour=colour):
            found.append((f"{colour} objects", [t for t in view.objects if t.colour == colour]))
    if not view.hides():
        found.append(("objects", view.objects))
    if not any(t.kind == "tray" for t in view.hidden):
        found.append(("trays", view.trays))
    some, none = [f for f in found if f[1]], [f for f in found if not f[1]]
    picked = view.random.sample(some, min(len(some), 1))
    if view.random.random() < 0.6:
        picked += view.random.sample(none if none and view.random.random() < 0.4 else some, 1) if found and some else []
    return [
        Question("count", view.say(COUNT_PROMPTS, what), f"{_at(*those)} {NUMBERS[min(len(those), 10)]}".strip())
        for what, those in picked
    ]


def _relations(view: _View) -> list[Question]:
    """Left and right between named things: yes or no, which of two, or all that is on one side."""
    if len(view.named) < 2:
        return []
    makers = (_side_yes_no, _side_yes_no, _side_all, _side_which)
    asked = [view.random.choice(makers)(view) for _ in range(view.random.randint(1, 2))]
    return [question for question in asked if question]


def _apart(view: _View) -> tuple[Thing, Thing] | None:
    a, b = view.random.sample(view.named, 2)
    return (a, b) if abs(a.pixel[0] - b.pixel[0]) > SIDE_MARGIN else None


def _first_is(a: Thing, b: Thing) -> str:
    return "left" if a.pixel[0] < b.pixel[0] else "right"


def _side_yes_no(view: _View) -> Question | None:
    if not (pair := _apart(view)):
        return None
    a, b = pair
    side = view.random.choice(("left", "right"))
    holds = _first_is(a, b) == side
    answer = f"{_at(a, b)} {_first_is(a, b)}, so {'yes' if holds else 'no'}"
    return Question("relation", view.say(SIDE_PROMPTS, a.name, side, b.name), answer)


def _side_which(view: _View) -> Question | None:
    if not (pair := _apart(view)):
        return None
    a, b = pair
    side = view.random.choice(("left", "right"))
    further = a if _first_is(a, b) == side else b
    answer = f"{_at(a, b)} {_first_is(a, b)}, so the {further.name}"
    return Question("relation", view.say(FURTHER_PROMPTS, side, a.name, b.name), answer)


def _side_all(view: _View) -> Question | None:
    anchor = view.random.choice(view.named)
    others = [t for t in view.objects if t is not anchor]
    offsets = [t.pixel[0] - anchor.pixel[0] for t in others]
    if view.hides() or any(abs(offset) < SIDE_MARGIN for offset in offsets):
        return None
    side = view.random.choice(("left", "right"))
    there = [t for t in others if _first_is(t, anchor) == side]
    listed = ", ".join(f"a {t.name} {_at(t)}" for t in there) or "nothing"
    return Question("relation", view.say(WHAT_SIDE_PROMPTS, side, anchor.name), f"{_at(anchor)} {listed}")
