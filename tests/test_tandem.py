"""The whole policy: units in and out, prefix and age, and a checkpoint that is whole or refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vla.actions.fast import FastTokens
from vla.actions.normalize import Normalizer
from vla.errors import UserError
from vla.s1.system import FastConfig, FastSystem
from vla.s2.small import SmallShape, small_slow_system
from vla.s2.system import SlowConfig
from vla.spec import ActionSpec, Camera, Field, RobotSpec
from vla.tandem import TandemConfig, TandemPolicy

SIZE = 32
SPEC = RobotSpec(
    name="toy",
    rate_hz=20.0,
    cameras=(Camera("front", SIZE, SIZE), Camera("wrist", SIZE, SIZE, mount="wrist")),
    state=(Field("joint_position", 3, "rad"), Field("gripper", 1, "1")),
    action=ActionSpec("ee_delta", (Field("ee_translation", 2, "m"), Field("gripper", 1, "1")), "1 = open, 0 = closed"),
)
FAST = FastConfig(image_size=(SIZE, SIZE), channels=(8, 16, 16), horizon=6, width=32, layers=1, heads=2, mlp=48)
SHAPE = SmallShape(image_size=SIZE, channels=(16, 16, 32, 32), width=32, layers=1, heads=2, mlp=48)


@pytest.fixture
def policy() -> TandemPolicy:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    slow = small_slow_system(["push the red cube", "push the blue ball"], SlowConfig(queries=2), SHAPE).eval()
    fast = FastSystem(FAST, SPEC.state_size, SPEC.action_size, slow.latent_shape).eval()
    torch.nn.init.normal_(fast.head.write.weight)
    ranges = rng.uniform([-0.02, -0.02, 0], [0.02, 0.02, 1], (500, 3))
    normalizer = Normalizer.fit(rng.normal(size=(500, 4)), ranges)
    return TandemPolicy(SPEC, slow, fast, normalizer, TandemConfig(fast=FAST, replan_steps=3))


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {camera: rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for camera in ("front", "wrist")}


STATE = np.array([0.1, -0.2, 0.3, 1.0], np.float32)


def test_acts_in_the_robots_units(policy, images) -> None:
    thought = policy.think(images, "push the red cube", stamp=2.0, instruction_id=7)
    assert thought.latents.shape == (2, 32) and thought.latents.dtype == torch.float32
    assert (thought.stamp, thought.instruction_id, thought.text) == (2.0, 7, None)
    actions = policy.act(images, STATE, thought, now=2.4)
    assert actions.shape == (6, 3) and actions.dtype == np.float32
    assert np.abs(actions[:, :2]).max() < 0.04
    assert (actions[:, 2] >= 0).all() and (actions[:, 2] <= 1).all()


def test_words_come_when_asked_for_and_leave_the_latents_alone(policy, images) -> None:
    silent, speaking = (policy.think(images, "push the red cube", 0.0, words=words) for words in (False, True))
    assert isinstance(speaking.text, str)
    torch.testing.assert_close(silent.latents, speaking.latents, atol=1e-5, rtol=1e-5)


def test_a_committed_prefix_is_repeated_as_given(policy, images) -> None:
    prefix = np.array([[0.5, 0, 1], [0.01, 0, 0.3]], np.float32)  # the first lies far outside what was trained on
    actions = policy.act(images, STATE, None, 0.0, prefix)
    np.testing.assert_array_equal(actions[:2], prefix)
    assert not np.allclose(actions[2:], policy.act(images, STATE, None, 0.0)[2:])
    np.testing.assert_array_equal(policy.act(images, STATE, None, 0.0, np.tile(prefix, (9, 1)))[0], prefix[0])


def test_the_age_of_a_thought_is_counted_from_its_stamp(policy, images) -> None:
    early, late = (policy.think(images, "push the red cube", stamp) for stamp in (0.0, 5.0))
    np.testing.assert_array_equal(policy.act(images, STATE, early, 0.5), policy.act(images, STATE, late, 5.5))
    assert not np.allclose(policy.act(images, STATE, early, 0.5), policy.act(images, STATE, early, 1.5))
    assert not np.allclose(policy.act(images, STATE, early, 0.5), policy.act(images, STATE, None, 0.5))


def test_an_image_may_be_seen_backwards(policy, images) -> None:
    seen = {camera: np.ascontiguousarray(image[:, ::-1, ::-1]) for camera, image in images.items()}
    backwards = {camera: image[:, ::-1, ::-1] for camera, image in images.items()}
    np.testing.assert_array_equal(policy.act(backwards, STATE, None, 0.0), policy.act(seen, STATE, None, 0.0))


def test_a_missing_camera_is_named(policy, images) -> None:
    with pytest.raises(UserError, match="looks through camera wrist, the observation has front"):
        policy.act({"front": images["front"]}, STATE, None, 0.0)


def test_parts_that_do_not_fit_are_refused(policy) -> None:
    smaller = FastSystem(FAST, 3, 3, policy.s2.latent_shape)
    with pytest.raises(UserError, match="S1: state has 3 entries, robot toy has 4"):
        TandemPolicy(SPEC, policy.s2, smaller, policy.normalizer, policy.config)
    blind = replace(SPEC, cameras=SPEC.cameras[:1])
    with pytest.raises(UserError, match="no camera 'wrist'"):
        TandemPolicy(blind, policy.s2, policy.s1, policy.normalizer, policy.config)


def test_another_robot_is_refused_with_what_differs(policy) -> None:
    policy.spec.check_robot(SPEC)
    with pytest.raises(UserError, match=r"trained for another robot: rate_hz is 20.0, the robot has 10.0"):
        policy.spec.check_robot(replace(SPEC, rate_hz=10.0))


# --- on disk ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(policy, tmp_path) -> Path:
    policy.save_pretrained(tmp_path / "toy")
    return tmp_path / "toy"


def test_a_checkpoint_acts_like_what_was_saved(policy, images, tmp_path) -> None:
    policy.save_pretrained(tmp_path / "toy", dtype=torch.float32)
    loaded = TandemPolicy.from_pretrained(tmp_path / "toy")
    assert loaded.config == policy.config and loaded.spec == SPEC
    thoughts = [p.think(images, "push the red cube", 0.0, words=True) for p in (policy, loaded)]
    assert thoughts[0].text == thoughts[1].text
    chunks = [p.act(images, STATE, t, 0.3) for p, t in zip((policy, loaded), thoughts, strict=True)]
    np.testing.assert_allclose(*chunks, atol=1e-6)


def test_half_precision_on_disk_full_precision_in_memory(saved, policy, images) -> None:
    loaded = TandemPolicy.from_pretrained(saved)
    assert {p.dtype for p in (*loaded.s1.parameters(), *loaded.s2.parameters())} == {torch.float32}
    weights = sum(p.numel() for p in loaded.s1.parameters())
    assert (saved / "s1.safetensors").stat().st_size < 2.2 * weights + 10_000
    near = loaded.act(images, STATE, None, 0.0) - policy.act(images, STATE, None, 0.0)
    assert np.abs(near[:, :2]).max() < 0.005


def test_saving_again_keeps_the_model_card(saved, policy) -> None:
    (saved / "README.md").write_text("# toy")
    policy.save_pretrained(saved)
    assert (saved / "README.md").read_text() == "# toy"
    assert sorted(p.name for p in saved.parent.iterdir()) == ["toy"]
    TandemPolicy.from_pretrained(saved)


def test_a_folder_without_a_name_is_refused(policy, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (".", ".."):
        with pytest.raises(UserError, match=f"checkpoint: {folder} cannot be replaced by a new folder; give one by"):
            policy.save_pretrained(folder)
    assert not any(tmp_path.iterdir())


def test_a_folder_with_something_else_is_left_alone(policy, tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds something else"):
        policy.save_pretrained(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.fixture
def speaking(policy) -> TandemPolicy:
    """The same with a head that says its actions in tokens."""
    config = replace(FAST, head="fast")
    chunks = np.sin(np.random.default_rng(0).uniform(0, 6, (300, 1, SPEC.action_size)) + np.linspace(0, 2, 6)[:, None])
    fast = FastSystem(config, SPEC.state_size, SPEC.action_size, policy.s2.latent_shape, FastTokens.fit(chunks)).eval()
    torch.nn.init.normal_(fast.head.write.weight)
    return TandemPolicy(SPEC, policy.s2, fast, policy.normalizer, replace(policy.config, fast=config))


def test_the_action_tokens_travel_with_the_checkpoint(speaking, images, tmp_path) -> None:
    speaking.save_pretrained(tmp_path / "toy", dtype=torch.float32)
    loaded = TandemPolicy.from_pretrained(tmp_path / "toy")
    assert loaded.s1.action_tokens == speaking.s1.action_tokens
    prefix = np.array([[0.5, 0, 1]], np.float32)
    chunks = [policy.act(images, STATE, None, 0.0, prefix) for policy in (speaking, loaded)]
    np.testing.assert_array_equal(*chunks)
    np.testing.assert_array_equal(chunks[0][:1], prefix)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "action_tokens.json is missing"),
        (lambda file: file.write_text("{"), "action_tokens.json cannot be read"),
        (lambda file: edit(file, scael=9.0), "action_tokens.json: unknown key scael; did you mean scale"),
        (lambda file: edit(file, horizon=7), r"fitted to chunks of shape \(7, 3\), S1 makes \(6, 3\)"),
        (lambda file: edit(file, bpe={"symbols": 3}), "s1.safetensors does not fit"),
    ],
)
def test_without_its_action_tokens_a_checkpoint_is_refused_in_one_line(speaking, tmp_path, damage, message) -> None:
    speaking.save_pretrained(tmp_path / "toy")
    damage(tmp_path / "toy" / "action_tokens.json")
    with pytest.raises(UserError, match=message) as error:
        TandemPolicy.from_pretrained(tmp_path / "toy")
    assert "\n" not in str(error.value)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def edit(path: Path, **values) -> None:
    data = json.loads(path.read_text())
    data.update(values)
    path.write_text(json.dumps(data))


DAMAGE = {
    "no folder": (lambda f: f.rename(f.parent / "gone"), "there is no such folder"),
    "no config": (lambda f: (f / "tandem.json").unlink(), "tandem.json is missing"),
    "no spec": (lambda f: (f / "robot_spec.yaml").unlink(), "robot_spec.yaml is missing"),
    "no normalization": (lambda f: (f / "normalization.json").unlink(), "normalization.json is missing"),
    "no S1": (lambda f: (f / "s1.safetensors").unlink(), "s1.safetensors is missing"),
    "no S2": (lambda f: (f / "s2" / "model.safetensors").unlink(), "model.safetensors is missing"),
    "S1 truncated": (lambda f: cut(f / "s1.safetensors"), "s1.safetensors is damaged"),
    "S2 truncated": (lambda f: cut(f / "s2" / "model.safetensors"), "cannot be read"),
    "not JSON": (lambda f: (f / "tandem.json").write_text("{"), "tandem.json cannot be read"),
    "unknown key": (
        lambda f: edit(f / "tandem.json", replan_step=2),
        "unknown key replan_step; did you mean replan_steps",
    ),
    "from the future": (lambda f: edit(f / "tandem.json", version=9), "version is 9"),
    "another shape": (
        lambda f: edit(f / "tandem.json", fast={**json.loads((f / "tandem.json").read_text())["fast"], "layers": 2}),
        "s1.safetensors does not fit",
    ),
    "another robot": (
        lambda f: replace(SPEC, state=(*SPEC.state, Field("force", 1, "N"))).save(f / "robot_spec.yaml"),
        "s1.safetensors does not fit",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_checkpoint_is_refused_in_one_line(saved, what) -> None:
    damage, message = DAMAGE[what]
    damage(saved)
    with pytest.raises(UserError, match=message) as error:
        TandemPolicy.from_pretrained(saved)
    assert "\n" not in str(error.value)
