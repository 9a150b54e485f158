from vla.evaluation.demo import EPISODES, SEED
from vla.evaluation.instructions import current, swap_target, tour


def test_a_swap_asks_the_same_of_another_object(robot):
    for seed in range(100_000, 100_012):
        robot.reset(seed)
        given = current(robot)
        robot.set_instruction(swap_target(robot, seed))
        swapped = current(robot)
        assert swapped.target != given.target
        possible = [one for one in robot.instructions() if one.target != given.target and one.family == given.family]
        assert swapped.family == given.family or not possible


def test_a_swap_keeps_the_words_where_it_can(robot):
    for seed in range(100_000, 100_012):
        robot.reset(seed)
        given = current(robot)
        robot.set_instruction(swap_target(robot, seed))
        swapped = current(robot)
        same_words = given.text.replace(given.target, swapped.target)
        possible = {one.text for one in robot.instructions() if one.split == given.split}
        assert swapped.text == same_words or same_words not in possible


def test_a_swap_depends_on_the_seed_alone(robot):
    robot.reset(4)
    first = swap_target(robot, 4)
    robot.reset(5)
    robot.reset(4)
    assert swap_target(robot, 4) == first


def test_the_demo_goes_through_the_families_with_ten_different_instructions(robot):
    texts, families = [], []
    for index in range(EPISODES):
        robot.reset(SEED + index)
        robot.set_instruction(tour(robot, SEED + index, index))
        texts.append(robot.instruction)
        families.append(robot.family)
    assert len(set(texts)) == EPISODES
    assert families[:3] == families[3:6] and len(set(families[:3])) == 3
