"""Questions about scenes agree with the scene, and are fair."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from gym_tabletop.scene_truth import Instruction, Scene, Thing
from gym_tabletop.words import KINDS, PROBES, Doing, loc, make_questions

FAMILIES = ("push", "lift", "place")


def thing(name, u, v=0.5, visible=True):
    colour, shape = name.split()
    kind = shape if shape in ("tray", "button") else "object"
    return Thing(name, colour, shape, kind, (0.5, 0.0, 0.02), (u, v), visible, 0.02)


RED_CUBE, BLUE_CUBE = thing("red cube", 0.2), thing("blue cube", 0.5, 0.25)
GREEN_BALL, YELLOW_TRAY = thing("green ball", 0.8), thing("yellow tray", 0.9, 0.9)
SCENE = Scene((GREEN_BALL, RED_CUBE, YELLOW_TRAY, BLUE_CUBE))


def ask(scene=SCENE, instructions=(), seeds=200, doing=None):
    return [
        question
        for seed in range(seeds)
        for question in make_questions(scene, instructions, FAMILIES, np.random.default_rng(seed), doing)
    ]


def answers(prompt, **kwargs):
    return {q.answer for q in ask(**kwargs) if q.prompt == prompt}


def lift(target, text="lift the {}", split="train"):
    return Instruction("lift", text.format(target.name), target.name, "", target.pixel, (float("nan"),) * 2, split)


def test_the_same_seed_asks_the_same():
    first, again = (make_questions(SCENE, [lift(RED_CUBE)], FAMILIES, np.random.default_rng(7)) for _ in range(2))
    assert first == again


def test_every_kind_is_asked():
    asked = ask(instructions=[lift(RED_CUBE)], doing=Doing(lift(RED_CUBE), "reach the red cube", 0.1))
    assert {q.kind for q in asked} == {*KINDS, *(f"existence-{probe}" for probe in PROBES)}


def test_places_are_64ths_of_the_image_and_stay_inside():
    assert loc((0.0, 0.5)) == "<loc00><loc32>"
    assert loc((1.0, -0.1)) == "<loc63><loc00>"


def test_pointing_answers_with_the_place_of_the_thing():
    assert answers("point to the blue cube") == {"<loc32><loc16>"}


def test_captions_list_all_things_from_left_to_right():
    assert answers("what is on the table, and where?") == {
        "a red cube at <loc12><loc32>, a blue cube at <loc32><loc16>, "
        "a green ball at <loc51><loc32>, a yellow tray at <loc57><loc57>"
    }
    assert answers("list the objects") == {"a red cube, a blue cube, a green ball and a yellow tray"}


def test_attributes_are_asked_only_where_one_thing_can_be_meant():
    assert answers("what colour is the ball?") == {"at <loc51><loc32> green"}
    assert answers("what shape is the red object?") == {"at <loc12><loc32> cube"}
    assert answers("what colour is the cube?") == set()


def test_what_is_counted_is_pointed_at_from_left_to_right():
    assert answers("how many cubes are there?") == {"at <loc12><loc32> at <loc32><loc16> two"}
    assert answers("how many cylinders are there?") == {"no"}
    assert answers("how many objects are there?") == {"at <loc12><loc32> at <loc32><loc16> at <loc51><loc32> three"}


def test_left_and_right_are_as_in_the_image():
    said = {q.prompt: q.answer for q in ask(seeds=3000) if q.kind == "relation"}
    assert said["is the red cube left of the green ball?"] == "at <loc12><loc32> at <loc51><loc32> left, so yes"
    assert said["is the red cube right of the green ball?"] == "at <loc12><loc32> at <loc51><loc32> left, so no"
    further = said["which is further right, the red cube or the blue cube?"]
    assert further == "at <loc12><loc32> at <loc32><loc16> left, so the blue cube"
    assert (
        said["what is left of the green ball?"]
        == "at <loc51><loc32> a red cube at <loc12><loc32>, a blue cube at <loc32><loc16>"
    )
    assert said["what is left of the red cube?"] == "at <loc12><loc32> nothing"


def test_things_beside_each_other_are_not_compared():
    beside = Scene((RED_CUBE, thing("green ball", RED_CUBE.pixel[0] + 0.01)))
    assert not [q for q in ask(beside) if q.kind == "relation"]


def test_existence_is_balanced_and_its_negatives_are_near_misses():
    asked = [q for q in ask() if q.kind == "existence"]
    assert Counter(q.answer.split()[-1] for q in asked) == {"yes": 200, "no": 200}
    absent = [q.prompt for q in asked if q.answer == "no"]
    assert not [p for p in absent if "red cube" in p or "green ball" in p]
    near = [p for p in absent if any(word in p for word in ("red", "blue", "green", "cube", "ball"))]
    assert len(near) > 0.8 * len(absent)


def test_hidden_things_are_neither_named_nor_asked_for():
    hidden = Scene((replace(RED_CUBE, visible=False), BLUE_CUBE, GREEN_BALL))
    asked = ask(hidden, [lift(RED_CUBE), lift(BLUE_CUBE)])
    assert not [q for q in asked if "red cube" in q.prompt or "red cube" in q.answer]
    assert not [q for q in asked if q.kind == "count" and "cubes" in q.prompt]
    assert not [q for q in asked if q.prompt == "what colour is the cube?"]


def test_instructions_say_the_target_and_its_place_and_are_never_held_out():
    held_out = lift(RED_CUBE, "hoist the {}", "phrasing")
    asked = [q for q in ask(instructions=[lift(RED_CUBE), lift(BLUE_CUBE), held_out]) if q.kind == "instruction"]
    assert {q.prompt for q in asked} == {"lift the red cube", "lift the blue cube"}
    assert {q.answer for q in asked} == {"the red cube <loc12><loc32>", "the blue cube <loc32><loc16>"}
    assert {(q.family, q.goal) for q in asked} == {(1, None)}
    assert {q.target for q in asked} == {RED_CUBE.pixel, BLUE_CUBE.pixel}


def test_what_is_being_done_is_said_with_its_place_and_how_far_it_is():
    doing = Doing(lift(RED_CUBE), "grasp the red cube", 0.43)
    said = {q.prompt: q for q in ask(doing=doing, seeds=1)}
    assert said["lift the red cube: what now?"].answer == "at <loc12><loc32> grasp the red cube, 40 percent"
    assert said["lift the red cube"].answer == "the red cube <loc12><loc32>"
    held_out = replace(doing, instruction=lift(RED_CUBE, "hoist the {}", "phrasing"))
    assert not [q for q in ask(doing=held_out) if q.kind in ("instruction", "subtask")]


def test_what_is_being_done_is_asked_also_where_the_arm_hides_it():
    behind_arm = Scene((replace(RED_CUBE, visible=False), BLUE_CUBE))
    asked = ask(behind_arm, doing=Doing(lift(RED_CUBE), "grasp the red cube", 0.43), seeds=1)
    told = [q.answer for q in asked if q.kind in ("instruction", "subtask")]
    assert told == ["the red cube <loc12><loc32>"] * 2 + ["at <loc12><loc32> grasp the red cube, 40 percent"]


def test_probes_are_about_what_is_nowhere():
    asked = [q for q in ask(seeds=400) if q.kind.startswith("existence-")]
    assert {q.answer for q in asked} == {"no"}
    assert not [q for q in asked if any(t.name in q.prompt for t in SCENE.things)]
    combined = {q.prompt.partition("a ")[2].strip("?") for q in asked if q.kind == "existence-adversarial"}
    assert {name.partition(" on")[0] for name in combined} == {"green cube", "red ball", "blue ball"}


def test_what_the_gripper_holds():
    assert answers("what is in the hand?", scene=replace(SCENE, held="red cube")) == {"at <loc12><loc32> the red cube"}
    assert answers("what is in the hand?") == {"nothing"}


@pytest.mark.parametrize("things", [(), (RED_CUBE,)])
def test_bare_tables_are_fine(things):
    assert ask(Scene(things), seeds=20)
