"""Recipes are strict, and a run goes through their stages, resumes, and refuses what it cannot do."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from dot_world import SIZE, SPEC, TASKS, write_episodes

from vla import assets
from vla.data.annotations import Annotation, Source, Words, write_annotations
from vla.data.cache import FrameCache
from vla.errors import UserError
from vla.ranks import join
from vla.s2.system import SlowConfig, SlowSystem
from vla.tandem import TandemPolicy
from vla.training.examples import DriverWeights, Examples, fit_normalizer
from vla.training.precision import device_named
from vla.training.recipe import Recipe, load_recipe
from vla.training.run import train

FAST_STAGE = {"batch": 8, "stride": 4, "held_out": 8, "delays": {"max_age": 0.4, "max_prefix": 2}}
LOOP = {"steps": 3, "warmup": 1, "log_every": 1, "eval_every": 3}
WORDS = {"images": 2, "questions": 1, "captions": 1}
TINY = {
    "replan_steps": 2,
    "slow": {"queries": 2},
    "shape": {"image_size": SIZE, "channels": [16, 16, 32, 32], "width": 32, "layers": 1, "heads": 2, "mlp": 48},
    "fast": {"image_size": [SIZE, SIZE], "channels": [8, 16, 16], "horizon": 4, "width": 32, "layers": 1, "heads": 2},
    "stages": [
        {"stage": "words", "loop": LOOP, "words": WORDS},
        {"stage": "s1", "loop": LOOP, "s1": FAST_STAGE},
        {"stage": "joint", "loop": LOOP, "words": WORDS, "joint": {"s1": FAST_STAGE}},
    ],
}


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


def change(recipe: Path, **values) -> None:
    recipe.write_text(yaml.safe_dump({**TINY, **values}))


# --- recipes ---------------------------------------------------------------------------------------------------------


def test_the_shipped_recipe_is_read() -> None:
    recipe = load_recipe(assets.find("recipe", "tabletop"))
    assert [stage.stage for stage in recipe.stages] == ["words", "s1", "joint"]
    assert recipe.fast.cameras == ("front", "wrist")


def test_survives_writing_and_reading(recipe, tmp_path) -> None:
    first = load_recipe(recipe)
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(first.to_dict()))
    assert load_recipe(tmp_path / "again.yaml") == first
    assert isinstance(first, Recipe) and first.stages[1].s1.delays.max_prefix == 2


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"stage": "s1", "loop": {"lerning_rate": 1}}, r"recipe tiny.yaml: unknown key stages\[0\].loop.lerning_rate"),
        ({"stage": "s1", "loop": {"step": 1}}, r"stages\[0\].loop.step; did you mean steps\?"),
        ({"stage": "s1", "s1": {"delays": {"max_agee": 1}}}, r"stages\[0\].s1.delays.max_agee; did you mean max_age"),
        ({"stage": "s2"}, r"stages\[0\].stage must be one of 'words', 's1', 'joint'"),
        ({"stage": "s1", "s1": {"batch": "many"}}, r"stages\[0\].s1.batch must be a whole number"),
        ({"stage": "s1", "s1": {"delays": {"none": 2.0}}}, "none is 2.0, it is a share from 0 to 1"),
        ({"stage": "s1", "s1": {"delays": {"max_age": 9.0}}}, "draws ages up to 9.0 s, beyond fast.max_age"),
        ({"stage": "joint", "joint": {"hindsight": 50}}, "hindsight is 50.0, it is a share from 0 to 1"),
        ({"stage": "s1", "s1": {"stride": 0}}, r"stages\[0\].s1.stride is 0, it must be at least 1"),
        ({"stage": "s1", "s1": {"held_out": 0}}, r"stages\[0\].s1.held_out is 0, it must be at least 1"),
        ({"stage": "words", "words": {"held_out": -1}}, r"stages\[0\].words.held_out is -1, it must be at least 0"),
        ({"stage": "s1", "loop": {"device": "cuda"}}, r"stages\[0\].loop.device is to be given with --device"),
        ({"stage": "joint", "s1": {"batch": 24}}, r"stages\[0\].s1 is not read in a stage joint; give joint.s1"),
        ({"stage": "s1", "words": {"images": 8}}, r"stages\[0\].words is not read in a stage s1"),
        ({"stage": "words", "joint": {"words": 1.0}}, r"stages\[0\].joint is not read in a stage words"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(recipe, stage, message) -> None:
    change(recipe, stages=[stage])
    with pytest.raises(UserError, match=message):
        load_recipe(recipe)


def test_a_joint_stage_holds_out_what_the_words_stage_did(recipe) -> None:
    words, joint = TINY["stages"][0], TINY["stages"][2]
    for held_out in ({}, {"held_out": 5}):
        change(recipe, stages=[words | {"words": {"held_out": 5}}, joint | {"words": held_out}])
        load_recipe(recipe)
    change(recipe, stages=[words, joint | {"words": {"held_out": 5}}])
    with pytest.raises(UserError, match=r"stages\[1\].words.held_out is that of the words stage before it"):
        load_recipe(recipe)


@pytest.mark.parametrize(
    ("section", "change_to", "message"),
    [
        ("shape", {"image_size": 40}, "shape.image_size is 40, it must be a multiple of 16 pixels"),
        ("shape", {"heads": 0}, r"shape.width is 32, it must be a multiple of heads \(0\)"),
        ("fast", {"heads": 0}, "width 32 is not a multiple of heads 0"),
        ("fast", {"flow_steps": 11}, "flow_steps is 11, it must be 1 to 10"),
        ("fast", {"flow_steps": 0}, "flow_steps is 0, it must be 1 to 10"),
        (
            "slow",
            {"words_prompt": "now {task}?"},
            r"slow.words_prompt is 'now {task}\?': {} is where the in",
        ),
    ],
)
def test_sizes_and_prompts_that_cannot_be_are_named(recipe, section, change_to, message) -> None:
    change(recipe, **{section: TINY[section] | change_to})
    with pytest.raises(UserError, match=message):
        load_recipe(recipe)


def test_an_unknown_head_is_named(recipe) -> None:
    change(recipe, fast={**TINY["fast"], "head": "tokens"})
    with pytest.raises(UserError, match=r"fast\.head must be one of 'l1', 'flow', 'bins', 'fast'; got 'tokens'"):
        load_recipe(recipe)


# --- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_goes_through_its_stages_and_resumes(recipe, episodes, stills, tmp_path) -> None:
    out = tmp_path / "run"
    train([episodes, stills], out, recipe, "cpu")
    assert sorted(p.name for p in out.iterdir()) == ["1-words", "2-s1", "3-joint", "latents", "policy", "run.json"]
    policy = TandemPolicy.from_pretrained(out / "policy")
    assert policy.spec == SPEC and policy.config.replan_steps == 2
    logs = {stage: (out / stage / "log.jsonl").read_text() for stage in ("1-words", "2-s1", "3-joint")}
    assert '"l1_age_none"' in logs["2-s1"] and '"actions"' in logs["3-joint"]

    weights = (out / "policy" / "s1.safetensors").read_bytes()
    train([episodes, stills], out, recipe, "cpu")
    assert (out / "policy" / "s1.safetensors").read_bytes() == weights
    assert {stage: (out / stage / "log.jsonl").read_text() for stage in logs} == logs

    change(recipe, seed=1)
    with pytest.raises(UserError, match="holds a run with another recipe"):
        train([episodes, stills], out, recipe, "cpu")


def test_a_run_goes_on_only_with_what_its_datasets_held(recipe, episodes, stills, tmp_path) -> None:
    """A policy's weights and the units of its states and actions are of the same episodes."""
    mine, scenes, out = tmp_path / "mine", shutil.copytree(stills, tmp_path / "stills"), tmp_path / "run"
    shutil.copytree(episodes, mine)
    change(recipe, stages=TINY["stages"][:2])
    train([mine, scenes], out, recipe, "cpu")
    policy = {path.name: path.read_bytes() for path in (out / "policy").iterdir() if path.is_file()}

    shutil.rmtree(mine)
    write_episodes(mine, episodes=25, length=6, seed=1)
    with pytest.raises(UserError, match=r"holds a run on other contents of \S+mine; choose another --out"):
        train([mine, scenes], out, recipe, "cpu")
    assert {path.name: path.read_bytes() for path in (out / "policy").iterdir() if path.is_file()} == policy

    shutil.rmtree(mine)
    shutil.copytree(episodes, mine)
    meta = json.loads((scenes / "meta.json").read_text())
    (scenes / "meta.json").write_text(json.dumps(meta | {"seed": 1}))
    with pytest.raises(UserError, match=r"holds a run on other contents of \S+stills; choose another --out"):
        train([mine, scenes], out, recipe, "cpu")

    run = json.loads((out / "run.json").read_text())
    del run["content"]  # as older runs were begun
    (out / "run.json").write_text(json.dumps(run))
    train([mine, scenes], out, recipe, "cpu")


def test_who_drove_is_asked_of_datasets_that_say_it_and_belongs_to_the_run(recipe, episodes, stills, tmp_path) -> None:
    out, weights = tmp_path / "run", DriverWeights(autonomous=0, correction=3)
    change(recipe, stages=TINY["stages"][:2])
    with pytest.raises(UserError, match="no dataset says who drove; those of vla teleop do"):
        train([episodes, stills], out, recipe, "cpu", drivers=weights)
    assert not out.exists()
    driven = shutil.copytree(episodes, tmp_path / "driven")
    count = len(np.load(driven / "episode.npy"))
    np.save(driven / "person.npy", (np.arange(count) % 6 > 2).astype(np.float32))
    np.save(driven / "intervention.npy", (np.arange(count) % 6 > 3).astype(np.float32))
    train([driven, stills], out, recipe, "cpu", drivers=weights)
    with pytest.raises(UserError, match="holds a run with another --autonomous, --corrections or"):
        train([driven, stills], out, recipe, "cpu")


@pytest.mark.parametrize("head", ["bins", "fast"])
def test_a_run_trains_the_head_its_recipe_names(recipe, episodes, stills, tmp_path, head) -> None:
    change(recipe, fast={**TINY["fast"], "head": head}, stages=TINY["stages"][:2])
    out = tmp_path / "run"
    train([episodes, stills], out, recipe, "cpu")
    policy = TandemPolicy.from_pretrained(out / "policy")
    assert policy.config.fast.head == head
    assert (out / "policy" / "action_tokens.json").is_file() == (head == "fast")
    train([episodes, stills], out, recipe, "cpu")  # the tokens it is resumed with are those it was trained on
    assert TandemPolicy.from_pretrained(out / "policy").s1.action_tokens == policy.s1.action_tokens

    change(recipe, stages=TINY["stages"][1:2])
    with pytest.raises(UserError, match="the recipe's fast differs from the S1 of --policy"):
        train([episodes], tmp_path / "other", recipe, "cpu", policy=str(out / "policy"))


def test_a_run_of_words_alone_leaves_an_s2(recipe, stills, tmp_path) -> None:
    change(recipe, stages=TINY["stages"][:1])
    train([stills], tmp_path / "run", recipe, "cpu")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["1-words", "run.json", "s2"]
    assert SlowSystem.from_pretrained(tmp_path / "run" / "s2").config == SlowConfig(**TINY["slow"])


def test_a_run_can_start_from_a_policy(recipe, episodes, stills, tmp_path) -> None:
    change(recipe, stages=TINY["stages"][:2])
    train([episodes, stills], tmp_path / "first", recipe, "cpu")
    change(recipe, stages=TINY["stages"][1:2], slow={})
    policy = str(tmp_path / "first" / "policy")
    train([episodes], tmp_path / "second", recipe, "cpu", policy=policy)
    before, after = (TandemPolicy.from_pretrained(tmp_path / name / "policy") for name in ("first", "second"))
    assert (before.s2.queries == after.s2.queries).all()
    assert (before.s1.trunk.position != after.s1.trunk.position).any()

    moved = shutil.copytree(policy, tmp_path / "moved")
    train([episodes], tmp_path / "second", recipe, "cpu", policy=str(moved))
    before.s1.trunk.position.data.fill_(0)
    before.save_pretrained(moved)
    with pytest.raises(UserError, match="holds a run with another --policy or --s2"):
        train([episodes], tmp_path / "second", recipe, "cpu", policy=str(moved))


def test_a_joint_stage_asks_about_frames_although_the_words_stage_did_not(recipe, episodes, stills, tmp_path) -> None:
    words, _, joint = TINY["stages"]
    change(recipe, stages=[words, joint | {"words": WORDS | {"frames": 2}}])
    train([episodes, stills], tmp_path / "run", recipe, "cpu")
    logs = [(tmp_path / "run" / stage / "log.jsonl").read_text() for stage in ("1-words", "2-joint")]
    assert ['"frames_place"' in log for log in logs] == [False, True]
    assert ['"frame_target_px"' in log for log in logs] == [False, True]


def test_what_the_data_cannot_give_is_said_before_anything_is_written(recipe, episodes, stills, tmp_path) -> None:
    out = tmp_path / "run"
    for datasets, message in (
        ([episodes], "stage words needs still scenes"),
        ([stills], "stage s1 needs episodes"),
        ([stills, stills, episodes], "both hold still scenes"),
        ([tmp_path], "neither LeRobot episodes nor still scenes"),
    ):
        with pytest.raises(UserError, match=message):
            train(datasets, out, recipe, "cpu")
    change(recipe, stages=TINY["stages"][1:])
    with pytest.raises(UserError, match="begins with s1, which needs an S2"):
        train([episodes, stills], out, recipe, "cpu")
    assert not out.exists()


def test_labels_of_other_cells_than_s2_has_are_said_before_anything_is_written(
    recipe, episodes, stills, tmp_path
) -> None:
    change(recipe, shape=TINY["shape"] | {"image_size": 64})
    with pytest.raises(UserError, match=r"images are of 64 pixels .*, the 4 x 4 cells of the still scenes ask for 32$"):
        train([episodes, stills], tmp_path / "run", recipe, "cpu")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_something_else_is_left_alone(recipe, episodes, stills, tmp_path) -> None:
    out = tmp_path / "home"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds something that is no training run"):
        train([episodes, stills], out, recipe, "cpu")
    assert [p.name for p in out.iterdir()] == ["thesis.tex"]


def test_an_absent_gpu_is_said(recipe, episodes, stills, tmp_path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(UserError, match="sees no CUDA device"):
        train([episodes, stills], tmp_path / "run", recipe, "cuda")


def test_a_gpu_beyond_those_there_are_is_said(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert device_named("cuda:1") == "cuda:1"
    with pytest.raises(UserError, match="unknown device 'tpu'; there are: auto, cpu, cuda, cuda:N"):
        device_named("tpu")
    with pytest.raises(UserError, match="device cuda:7: the last one this machine's PyTorch sees is cuda:1"):
        device_named("cuda:7")
    for name, value in {"WORLD_SIZE": "3", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="one process for each GPU: this machine has 2, this is number 3"):
        join("cuda")


# --- hindsight -------------------------------------------------------------------------------------------------------


def with_hindsight(share: float) -> dict:
    return {"stages": [TINY["stages"][0], {**TINY["stages"][2], "joint": {"s1": FAST_STAGE, "hindsight": share}}]}


def annotated(episodes: Path, folder: Path) -> Path:
    """The episodes, every other one of them with words of somebody who has seen it."""
    shutil.copytree(episodes, folder)
    said = [
        Annotation(i, 6, TASKS[0], Source("person", "ada", ""), Words(f"touch square {i}")) for i in range(0, 20, 2)
    ]
    write_annotations(folder / "annotations.jsonl", said)
    return folder


def test_a_run_draws_the_words_of_annotations(recipe, episodes, stills, tmp_path) -> None:
    change(recipe, **with_hindsight(0.5))
    out = tmp_path / "run"
    train([annotated(episodes, tmp_path / "annotated"), stills], out, recipe, "cpu")
    assert TandemPolicy.from_pretrained(out / "policy").spec == SPEC


def test_words_are_drawn_as_often_as_the_recipe_says_and_otherwise_stay_as_recorded(episodes, tmp_path) -> None:
    cache = FrameCache.open(annotated(episodes, tmp_path / "annotated"))
    examples = Examples([cache], fit_normalizer([cache]))
    frames = np.arange(120)
    recorded = [cache.episodes[i // 6].task for i in frames]
    assert examples.prompts(frames) == recorded
    rng = np.random.default_rng(0)
    for share in (0.0, 0.3, 1.0):
        drawn = [examples.drawn_prompts(frames, rng, share) for _ in range(50)]
        new = np.array([[prompt != old for prompt, old in zip(prompts, recorded, strict=True)] for prompts in drawn])
        assert new[:, frames // 6 % 2 == 0].mean() == pytest.approx(share, abs=0.03)
        assert not new[:, frames // 6 % 2 == 1].any()
        assert all(prompts[i] in (recorded[i], f"touch square {i // 6}") for prompts in drawn for i in frames)


def test_hindsight_without_annotations_is_said_before_training(recipe, episodes, stills, tmp_path) -> None:
    change(recipe, **with_hindsight(0.5))
    with pytest.raises(
        UserError, match="no episode has an annotation with an instruction; make them with vla data ann"
    ):
        train([episodes, stills], tmp_path / "run", recipe, "cpu")
    assert not (tmp_path / "run").exists()


def test_a_recipe_can_be_trained_by_the_clock(recipe, stills, episodes, tmp_path) -> None:
    pytest.importorskip("lerobot")
    from vla.bench.contest import Entrant, train_entrant

    change(recipe, stages=[stage | {"loop": LOOP | {"eval_every": 1000}} for stage in TINY["stages"]])
    entrant = Entrant("ours", recipe=str(recipe), shares=(0.1, 0.8, 0.1), change={"replan_steps": 3})
    found = train_entrant(entrant, [stills, episodes], 1.0, tmp_path / "out", "cpu")
    assert 1.0 <= found.seconds <= found.wall_s and found.samples_per_s > 0
    assert TandemPolicy.from_pretrained(found.policy).config.replan_steps == 3
    run = tmp_path / "out" / "run"
    first = {}
    for stage in ("1-words", "2-s1", "3-joint"):
        first[stage] = json.loads((run / stage / "log.jsonl").read_text().splitlines()[0])["spent_s"]
    (note,) = (run / "latents").glob("*.json")
    assert 0 < round(json.loads(note.read_text())["seconds"], 2) <= first["2-s1"], "S2 reads the episodes in S1's time"
    assert all(first.values())
