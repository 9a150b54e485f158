"""Other ways to run a policy: each differs from the two-speed loop in what its name says."""

import pytest
from line_world import LinePolicy, LineRobot, LookingBack

from vla.runtime.loop import Timing
from vla.runtime.variants import VARIANTS, build_loop, nonsense


def drive(variant, steps, timing, policy=None):
    robot, policy = LineRobot(), policy or LinePolicy()
    loop = build_loop(variant, policy, robot, timing)
    trace = loop.run("left", steps, finished=lambda: False)
    return robot, policy, trace


class Seeing(LinePolicy):
    """Notes the brightest pixel S2 is shown."""

    def think(self, images, instruction, stamp, instruction_id=0, words=False):
        self.seen = [*getattr(self, "seen", []), int(images["front"].max())]
        return super().think({"front": images["front"] * 0 + round(stamp * 20)}, instruction, stamp, instruction_id)


def test_a_frozen_s2_thinks_once_and_its_thought_ages():
    _, policy, trace = drive("frozen", 17, Timing(s2_delay=0.2))
    assert len(policy.thinks) == 1
    assert trace.s2_age_s == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_a_frozen_s2_keeps_to_what_it_was_told_first():
    robot, policy = LineRobot(), LinePolicy()
    loop = build_loop("frozen", policy, robot, Timing(s2_delay=0.1))
    loop.run(lambda: "left" if loop.clock.step < 5 else "right", 12, finished=lambda: False)
    assert [words for _, words, _ in policy.thinks] == ["left"]
    assert robot.moves[-1] > 0  # it goes on, with the old thought


def test_a_blind_s2_sees_black_while_s1_keeps_its_eyes():
    robot, policy, _ = drive("blind", 9, Timing(s2_delay=0.1), Seeing())
    assert set(policy.seen) == {0} and len(policy.seen) > 2
    assert robot.moves[-1] > 0


def test_a_deaf_s2_hears_nonsense_word_for_word():
    _, policy, _ = drive("deaf", 9, Timing(s2_delay=0.1))
    assert {words for _, words, _ in policy.thinks} == {nonsense("left")}
    first, second = nonsense("red cube"), nonsense("red ball")
    assert first.split()[0] == second.split()[0] and first.split()[1] != second.split()[1]
    assert not {"red", "cube", "ball"} & {*first.split(), *second.split()}


def test_a_synchronous_robot_holds_while_s2_and_s1_compute():
    robot, policy, trace = drive("synchronous", 14, Timing(s2_delay=0.1, s1_delay=1))
    # Looks at steps 0 and 9: three steps of waiting, then twice as long of the chunk from its start.
    assert robot.moves == [0, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0, 900, 901]
    assert trace.holds == 6 and trace.s2_age_s == [0, 0]
    assert [stamp for stamp, _, _ in policy.thinks] == pytest.approx([0, 0.45])


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "no-thoughts"])
def test_without_latency_and_in_a_still_world_all_but_the_frozen_think_as_often(variant):
    _, policy, _ = drive(variant, 9, Timing(), Seeing())
    assert len(policy.thinks) == (1 if variant == "frozen" else 3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_policy_that_looks_at_several_steps_is_shown_each(variant):
    looking = LookingBack()
    drive(variant, 9, Timing(s2_delay=0.1), looking)
    looking.check()
    assert len(looking.seen) >= 2 and looking.seen[-1][0]
