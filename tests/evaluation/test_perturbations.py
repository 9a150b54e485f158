"""Perturbations change words or pictures, and neither motion nor what counts as success."""

import numpy as np
import pytest

from gym_tabletop.assigned import AssignedTable
from gym_tabletop.perturbation import LOOKS
from vla.bench import perturbations
from vla.bench.perturbations import AS_TOLD, Study, bench_perturbations, conditions
from vla.cli import main
from vla.errors import UserError
from vla.evaluation.episode import Play, play_episode
from vla.evaluation.evaluate import EvalOptions, evaluate
from vla.evaluation.instructions import current, paraphrase, stranger
from vla.evaluation.perturbations import PERTURBATIONS, looks_of
from vla.evaluation.report import conditions as conditions_in_words
from vla.evaluation.setup import Setup
from vla.robots.gym_sim import GymRobot, make_robot

SEED = 100_003


def film(env: str, task: str, looks: tuple[str, ...], seed: int = SEED) -> tuple[dict, np.ndarray, str]:
    """The first pictures, the states (T, S) under the same commands, and the instruction."""
    with make_robot(env, task=task, **({"perturb": looks} if looks else {})) as robot:
        observation = robot.reset(seed)
        rng, states = np.random.default_rng(0), [observation.state]
        low, high = robot.environment.action_space.low, robot.environment.action_space.high
        for _ in range(6):
            robot.command(rng.uniform(low, high).astype(np.float32))
            states.append(robot.observe().state)
        return dict(observation.images), np.stack(states), robot.instruction


@pytest.fixture(scope="module", params=[("tabletop", "lift"), ("metaworld", "push-v3"), ("aloha", "transfer_cube")])
def plain(request):
    pytest.importorskip({"tabletop": "gym_tabletop", "metaworld": "metaworld", "aloha": "gym_aloha"}[request.param[0]])
    return *request.param, film(*request.param, ())


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_changes_the_pictures_and_nothing_else(plain, look):
    env, task, (images, states, words) = plain
    seen, felt, told = film(env, task, (look,))
    assert np.abs(seen["front"].astype(int) - images["front"]).max() > 30
    assert np.array_equal(felt, states) and told == words


def test_a_moved_camera_is_a_fixed_one_and_looks_can_be_had_together():
    images, states, _ = film("tabletop", "lift", ())
    moved, _, _ = film("tabletop", "lift", ("camera",))
    assert np.array_equal(moved["wrist"], images["wrist"])
    everything, felt, _ = film("tabletop", "lift", LOOKS)
    again, _, _ = film("tabletop", "lift", LOOKS[::-1])
    assert np.array_equal(everything["wrist"], again["wrist"]) and np.array_equal(felt, states)
    other, _, _ = film("tabletop", "lift", ("light",), SEED + 1)
    assert not np.array_equal(other["wrist"], everything["wrist"])


def test_distractors_keep_clear_of_what_is_on_the_table():
    with make_robot("tabletop", perturb=("distractors",)) as robot:
        for seed in range(5):
            robot.reset(seed)
            env = robot.environment
            assert 3 <= len(env.perturbation.distractors) <= 5
            for one in env.perturbation.distractors:
                gaps = [np.hypot(*(one.place[:2] - thing.position[:2])) - thing.size for thing in env.scene().things]
                assert min(gaps) > one.size.max()


def test_a_look_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="perturb='fog' is not one of distractors, light, camera"):
        make_robot("tabletop", perturb=("fog",))


def test_a_paraphrase_asks_the_same_in_held_out_words(robot):
    for seed in range(SEED, SEED + 8):
        robot.reset(seed)
        given, text = current(robot), paraphrase(robot, seed)
        assert given is not None and text != given.text
        robot.set_instruction(text)
        asked = current(robot)
        assert (asked.family, asked.target, asked.goal) == (given.family, given.target, given.goal)
        assert asked.split == "phrasing" or given.split == "pair"


def test_a_paraphrased_episode_is_played_and_judged_as_before(expert, robot):
    result = play_episode(expert, robot, Play(choice="paraphrase"), SEED)
    assert result.success and result.original not in (None, result.instruction)


@pytest.mark.parametrize(("task", "count"), [("changed", 1), ("lift", 0)])
def test_an_episode_without_other_words_is_counted(expert_anywhere, task, count, monkeypatch, capsys):
    monkeypatch.setattr(GymRobot, "max_steps", 2)
    options = EvalOptions(task=task, perturb=("paraphrase",))
    document = evaluate("expert", "tabletop-suite", 1, SEED, options, loaded=expert_anywhere)
    assert document["counts"]["unparaphrased"] == count
    said = "1 of them in their own words"
    assert (said in capsys.readouterr().out) == (said in conditions_in_words(document)) == bool(count)


def test_where_nothing_has_other_words_none_can_be_asked_for(expert_anywhere, monkeypatch):
    monkeypatch.delattr(AssignedTable, "paraphrases")
    with pytest.raises(UserError, match="cannot be paraphrased"):
        evaluate("expert", "tabletop", 1, SEED, EvalOptions(perturb=("paraphrase",)), loaded=expert_anywhere)


def test_where_a_scene_has_one_task_a_swap_tells_another_and_judges_its_own():
    pytest.importorskip("metaworld")
    with make_robot("metaworld-mt10", task="push-v3", lazy=True) as robot:
        robot.reset(1)
        told = stranger(robot, 1)
        assert told in robot.others() and told not in {one.text for one in robot.instructions()}
        assert stranger(robot, 1) == told


def test_the_tabletop_has_no_strangers(robot):
    robot.reset(SEED)
    assert stranger(robot, SEED) is None


def test_words_and_looks_travel_to_a_worker():
    setup = Setup("tabletop", "tabletop", play=Play(choice="paraphrase"), looks=looks_of(tuple(PERTURBATIONS)))
    assert Setup.from_dict(setup.to_dict()) == setup and setup.looks == LOOKS


@pytest.mark.parametrize(
    ("names", "message"),
    [(["paraphrase", "swap"], "choose one"), (["fog"], "unknown perturbation 'fog'; there are: paraphrase, swap")],
)
def test_perturbations_that_cannot_be_are_one_line(names, message, capsys):
    with pytest.raises(UserError, match=message):
        EvalOptions(perturb=tuple(names))
    try:
        code = main(["eval", "--policy", "tabletop", "--perturb", *names])
    except SystemExit as exit:
        code = exit.code
    assert code == 2 and message in capsys.readouterr().err


def test_the_table_pairs_every_condition_with_the_run_as_told(expert_anywhere, tmp_path, monkeypatch):
    monkeypatch.setattr(perturbations, "S2_DELAYS_S", (0.2,))  # fewer: an episode takes a second
    monkeypatch.setattr(perturbations, "S1_DELAYS", (2,))
    study = Study("expert", "tabletop", ("lift",), 1, SEED)
    assert study.split == "train" and Study("expert", "aloha", ("all",), 1, SEED).split == "all"
    table = bench_perturbations(study, tmp_path, 1, loaded=expert_anywhere)
    assert set(table["conditions"]) == {one.name for one in conditions()}
    assert [row["name"] for row in table["rows"]] == [name for name in table["conditions"] if name != AS_TOLD]
    assert all(len(one["outcomes"]) == 1 for one in table["conditions"].values())
    page = (tmp_path / "perturbations.md").read_text()
    assert table["device"] == "cpu" and "Device: cpu." in page
    assert "| paraphrase | 100 %" in page and "| +0, " in page
    assert (tmp_path / "perturbations.png").read_bytes().startswith(b"\x89PNG")
    assert bench_perturbations(study, tmp_path, 1, loaded=expert_anywhere) == table
    with pytest.raises(UserError, match="another study"):
        bench_perturbations(Study("expert", "tabletop", ("push",), 1, SEED), tmp_path, 1, loaded=expert_anywhere)
