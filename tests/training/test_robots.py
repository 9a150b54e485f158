"""Datasets of different robots make one policy: shared eyes, thoughts and trunk, and ends of each robot's own."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from dot_world import SPEC as DOT
from test_recipe import FAST_STAGE, LOOP, TINY

from vla import assets
from vla.actions.fast import FastTokens
from vla.cli import main
from vla.data.cache import FrameCache
from vla.errors import UserError
from vla.many import ManyPolicy, cameras_in_slots
from vla.s1.shared import Body, SharedFastSystem
from vla.s1.system import FastConfig
from vla.spec import ActionSpec, Box, Camera, Field, Limits, RobotSpec
from vla.tandem import TandemPolicy, read_config
from vla.training.examples import Examples, fit_normalizer
from vla.training.robots import RobotsStage, share_out
from vla.training.run import train
from vla.training.stage_s1 import FastStage, FastStageConfig

CRANE = RobotSpec(
    name="crane",
    rate_hz=30.0,
    cameras=(Camera("top", 24, 40),),
    state=(Field("joint_position", 5, "rad"),),
    action=ActionSpec("joint_position", (Field("joint_position", 4, "rad"),)),
)
ROBOTS = {"crane": {"cameras": {"front": "top"}}}


def write_crane(dot: Path, folder: Path) -> Path:
    """The dot's episodes as another robot's: one camera, of another size, joints, another rate."""
    shutil.copytree(dot, folder)
    state, action = (np.load(folder / f"{name}.npy") for name in ("state", "action"))
    np.save(folder / "state.npy", np.concatenate([state, state[:, :2]], 1))
    np.save(folder / "action.npy", np.concatenate([state[:, :2] + action[:, :2], state[:, :2]], 1))
    np.save(folder / "top.npy", np.repeat(np.load(folder / "front.npy")[:, :24], 2, axis=2)[:, :, :40])
    for name in ("front", "wrist"):
        (folder / f"{name}.npy").unlink()
    CRANE.save(folder / "robot_spec.yaml")
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"fps": 30.0, "cameras": ["top"]}))
    return folder


@pytest.fixture(scope="module")
def crane(episodes, tmp_path_factory) -> Path:
    return write_crane(episodes, tmp_path_factory.mktemp("data") / "crane")


@pytest.fixture(scope="module")
def run(episodes, crane, stills, tmp_path_factory) -> Path:
    """All three stages on both robots."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"robots": ROBOTS}))
    train([stills, episodes, crane], folder / "run", folder / "tiny.yaml", "cpu", weights=[1.0, 1.0, 3.0])
    return folder / "run"


def observe(policy: TandemPolicy) -> np.ndarray:
    rng = np.random.default_rng(0)
    sizes = {camera.name: (camera.height, camera.width, 3) for camera in policy.spec.cameras}
    images = {name: rng.integers(0, 256, size, dtype=np.uint8) for name, size in sizes.items()}
    thought = policy.think(images, "go to the red square", 0.0)
    return policy.act(images, rng.normal(size=policy.spec.state_size).astype(np.float32), thought, 0.1)


# --- the model -------------------------------------------------------------------------------------------------------


def tokens_for(actions: int) -> FastTokens:
    return FastTokens.fit(np.random.default_rng(0).uniform(-1, 1, (200, 4, actions)).astype(np.float32))


@pytest.mark.parametrize("head", ["l1", "flow", "bins", "fast"])
def test_robots_share_all_but_their_ends(head) -> None:
    config = FastConfig(("front", "wrist"), (32, 32), (8, 8), 4, head, 16, 1, 2, 16)
    tokens = {size: tokens_for(size) if head == "fast" else None for size in (2, 4)}
    bodies = {
        "a": Body(3, 2, {"wrist": "hand", "front": "front"}, tokens[2]),
        "b": Body(5, 4, {"front": "top"}, tokens[4]),
    }
    shared = SharedFastSystem(config, bodies, (2, 8))
    a, b = shared.of("a"), shared.of("b")
    assert a.trunk is b.trunk and a.thought is b.thought and a.cameras["front"] is b.cameras["top"]
    assert a.config.cameras == ("front", "hand") and b.config.cameras == ("top",)
    names = [name for name, _ in shared.named_parameters(remove_duplicate=False)]
    assert len(names) == len({id(p) for p in shared.parameters()}) == len(shared.state_dict())
    b.loss(
        {"top": torch.randint(0, 256, (2, 20, 30, 3), dtype=torch.uint8)},
        *(torch.randn(2, 5), torch.randn(2, 2, 8), torch.rand(2), torch.randn(2, 4, 4).clamp(-1, 1)),
        *(torch.tensor([0, 1]), torch.ones(2, 4, dtype=torch.bool)),
    ).backward()
    touched = {".".join(name.split(".")[:2]) for name, p in shared.named_parameters() if p.grad is not None}
    assert {"trunk.blocks", "cameras.front", "states.b", "heads.b"} <= touched
    assert not touched & {"cameras.wrist", "states.a", "heads.a"}
    images = {name: torch.zeros(1, 32, 32, 3, dtype=torch.uint8) for name in a.config.cameras}
    chunk = a.act(
        images, torch.randn(1, 3), torch.randn(1, 2, 8), torch.rand(1), torch.zeros(1, 4, 2), torch.tensor([0])
    )
    assert chunk.shape == (1, 4, 2) and chunk.isfinite().all()


def test_cameras_find_their_slots() -> None:
    arm = RobotSpec("arm", 10, tuple(Camera(n, 8, 8) for n in ("front", "hand")), CRANE.state, CRANE.action)
    slots = ("front", "wrist")
    assert cameras_in_slots(arm, slots, {}) == {"front": "front"}
    assert cameras_in_slots(arm, slots, {"wrist": "hand"}) == {"front": "front", "wrist": "hand"}
    assert cameras_in_slots(arm, slots, {"wrist": "front"}) == {"wrist": "front"}
    with pytest.raises(UserError, match="there is no camera slot side; there are front, wrist"):
        cameras_in_slots(arm, slots, {"side": "hand"})
    with pytest.raises(UserError, match="arm has no camera 'left'"):
        cameras_in_slots(arm, slots, {"wrist": "left"})


# --- training --------------------------------------------------------------------------------------------------------


def test_a_batch_holds_a_part_of_every_robot_and_the_loss_is_that_of_all_its_frames(episodes, crane) -> None:
    caches = [FrameCache.open(folder) for folder in (episodes, crane)]
    examples = {c.spec.name: Examples([c], fit_normalizer([c]), [w]) for c, w in zip(caches, (1.0, 3.0), strict=True)}
    assert share_out(8, examples) == {"dot": 2, "crane": 6}
    assert share_out(2, examples) == {"dot": 1, "crane": 1}
    with pytest.raises(UserError, match="a batch of 1 cannot hold a frame of each of 2 robots"):
        share_out(1, examples)

    class Nothing:
        stride = 1

        def at(self, frames: np.ndarray) -> torch.Tensor:
            return torch.zeros(len(frames), 2, 8)

    bodies = {"dot": Body(3, 3, {"front": "front", "wrist": "wrist"}), "crane": Body(5, 4, {"front": "top"})}
    shared = SharedFastSystem(FastConfig(image_size=(32, 32), channels=(8, 8), horizon=4, width=16), bodies, (2, 8))
    shares = share_out(8, examples)
    stages = {
        name: FastStage(shared.of(name), examples[name], Nothing(), FastStageConfig(batch=count))
        for name, count in shares.items()
    }

    class Holder:  # of what a stage takes from a policy
        def __init__(self) -> None:
            self.shared = shared

    stage = RobotsStage(Holder(), stages, shares, frozen=True)  # type: ignore[arg-type]
    batch = stage.batch(5)
    assert {name: len(part["state"]) for name, part in batch["robots"].items()} == shares
    loss, parts = stage.loss(batch)
    torch.testing.assert_close(loss, (2 * parts["dot"] + 6 * parts["crane"]) / 8)
    loss.backward()
    assert all(p.grad is not None for p in shared.trunk.parameters())


def test_training_reports_every_robot_and_leaves_one_policy(run: Path) -> None:
    for stage in ("2-s1", "3-joint"):
        lines = [json.loads(line) for line in (run / stage / "log.jsonl").read_text().splitlines()]
        trained, held_out = lines[0], lines[-1]
        assert trained.keys() >= {"loss", "dot", "crane"} and held_out.keys() >= {"dot l1", "crane l1"}
    assert {path.name for path in (run / "policy").iterdir()} == {
        *("tandem.json", "robots.json", "robots", "s1.safetensors", "s2")
    }


# --- the policy ------------------------------------------------------------------------------------------------------


def test_the_robots_spec_picks_its_part(run: Path) -> None:
    for spec, shape in ((DOT, (4, 3)), (CRANE, (4, 4))):
        policy = TandemPolicy.from_pretrained(run / "policy", robot=spec)
        assert policy.spec == spec and observe(policy).shape == shape
        same = TandemPolicy.from_pretrained(run / "policy", robot=spec.name)
        np.testing.assert_array_equal(observe(policy), observe(same))


def test_a_robot_may_know_more_of_itself_than_its_part_does(run: Path) -> None:
    limits = Limits(((-3.0, 3.0),) * 5, *((1.0,) * 5,) * 3, 1.0, Box(*((-1.0, 1.0),) * 3))
    policy = TandemPolicy.from_pretrained(run / "policy", robot=replace(CRANE, limits=limits))
    assert policy.spec == CRANE


def test_a_robot_that_is_none_of_them_is_told_which_there_are(run: Path) -> None:
    other = RobotSpec.load(assets.find("robot", "tabletop"))
    with pytest.raises(UserError, match=r"is of the robots dot, crane; tabletop is none of them$"):
        TandemPolicy.from_pretrained(run / "policy", robot=other)
    slower = RobotSpec(CRANE.name, 15, CRANE.cameras, CRANE.state, CRANE.action)
    with pytest.raises(UserError, match=r"for another robot: rate_hz is 30.0, the robot has 15$"):
        TandemPolicy.from_pretrained(run / "policy", robot=slower)
    with pytest.raises(UserError, match=r"of several robots \(dot, crane\): make a policy of one of them with vla exp"):
        TandemPolicy.from_pretrained(run / "policy")
    with pytest.raises(UserError, match="the robots dot, crane; cran is none of them"):
        TandemPolicy.from_pretrained(run / "policy", robot="cran")


def test_commands_that_cannot_know_the_robot_ask_for_it(run: Path, tmp_path: Path, capsys) -> None:
    out = ["--out", str(tmp_path / "one")]
    for words in (["serve", "--port", "0"], ["export", *out], ["quantize", *out]):
        assert main([*words, "--policy", str(run / "policy")]) == 2
        err = capsys.readouterr().err
        assert "of several robots (dot, crane): make a policy of one of them with vla export --robot NAME" in err
        assert err.count("\n") == 1
    assert not (tmp_path / "one").exists()


def test_its_folder_has_no_spec_but_those_of_its_robots(run: Path, capsys) -> None:
    assert main(["spec", "check", str(run / "policy")]) == 2
    robots = [str(run / "policy" / "robots" / name) for name in ("crane", "dot")]
    assert f"checkpoint {run / 'policy'}: no robot_spec.yaml; give one of its robots: {', '.join(robots)}\n" in (
        capsys.readouterr().err
    )
    assert main(["spec", "check", robots[0]]) == 0


def test_it_survives_the_disk_and_gives_policies_of_one_robot(run: Path, tmp_path: Path) -> None:
    many = ManyPolicy.from_pretrained(run / "policy")
    many.save_pretrained(tmp_path / "again", torch.float32)
    again = ManyPolicy.from_pretrained(tmp_path / "again")
    for name, policy in many.robots.items():
        np.testing.assert_array_equal(observe(policy), observe(again.robots[name]))
        policy.save_pretrained(tmp_path / name, torch.float32)
        alone = TandemPolicy.from_pretrained(tmp_path / name)
        np.testing.assert_array_equal(observe(policy), observe(alone))
    assert not (tmp_path / "crane" / "robots.json").exists()


def test_a_damaged_one_is_named(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "policy", tmp_path / "policy")
    (tmp_path / "policy" / "robots" / "crane" / "normalization.json").unlink()
    with pytest.raises(UserError, match=r"robots/crane: normalization.json is missing"):
        TandemPolicy.from_pretrained(tmp_path / "policy", robot=DOT)
    (tmp_path / "policy" / "robots.json").write_text('{"version": 1}')
    with pytest.raises(UserError, match=r"robots\.json is damaged"):
        TandemPolicy.from_pretrained(tmp_path / "policy", robot=DOT)


def test_it_is_trained_on_with_all_its_robots(run: Path, episodes, crane, stills, tmp_path: Path) -> None:
    recipe = tmp_path / "on.yaml"
    stage = {"stage": "s1", "loop": LOOP, "s1": FAST_STAGE}
    recipe.write_text(yaml.safe_dump(TINY | {"stages": [stage]}))
    with pytest.raises(UserError, match="--policy is of robot crane too; give a dataset of it"):
        train([episodes], tmp_path / "one", recipe, "cpu", policy=str(run / "policy"))
    assert not (tmp_path / "one").exists()
    train([crane, episodes], tmp_path / "both", recipe, "cpu", policy=str(run / "policy"))
    before, after = (ManyPolicy.from_pretrained(folder / "policy") for folder in (run, tmp_path / "both"))
    assert after.robots["crane"].normalizer.to_dict() == before.robots["crane"].normalizer.to_dict()
    assert not torch.equal(after.shared.states["crane"].mlp[0].weight, before.shared.states["crane"].mlp[0].weight)


@pytest.mark.parametrize(
    ("robots", "message"),
    [
        ({}, "robot crane has no camera front, which S2 looks through"),
        ({"crane": {"cameras": {"front": "side"}}}, "crane has no camera 'side'; it has top"),
        ({"crain": {"cameras": {"front": "top"}}}, "recipe's robots names crain, the datasets are of dot, crane"),
        ({"crane": {"camera": {"front": "top"}}}, "unknown key robots.crane.camera; did you mean cameras"),
    ],
)
def test_what_does_not_fit_is_said_first(robots, message, episodes, crane, stills, tmp_path) -> None:
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(TINY | {"robots": robots}))
    with pytest.raises(UserError, match=message):
        train([stills, episodes, crane], tmp_path / "run", tmp_path / "bad.yaml", "cpu")
    assert not (tmp_path / "run").exists()


def test_frames_are_asked_about_where_a_camera_sees_the_front(crane, stills, tmp_path) -> None:
    stage = {"stage": "words", "loop": LOOP, "words": {"images": 2, "frames": 2}}
    (tmp_path / "frames.yaml").write_text(yaml.safe_dump(TINY | {"stages": [stage]}))
    with pytest.raises(UserError, match=r"words\.frames: no dataset of episodes has a camera front"):
        train([stills, crane], tmp_path / "run", tmp_path / "frames.yaml", "cpu")
    assert not (tmp_path / "run").exists()


def test_two_specs_of_one_name_are_taken_for_a_mistake(episodes, tmp_path) -> None:
    shutil.copytree(episodes, tmp_path / "other")
    RobotSpec("dot", 25, DOT.cameras, DOT.state, DOT.action).save(tmp_path / "other" / "robot_spec.yaml")
    caches = [FrameCache.open(folder) for folder in (episodes, tmp_path / "other")]
    with pytest.raises(UserError, match=r"rate_hz is 20.0, .* has 25.0; if they are two, give each spec a name"):
        Examples(caches, fit_normalizer(caches))


def test_limits_that_were_raised_between_two_recordings_make_no_other_robot(episodes, tmp_path) -> None:
    shutil.copytree(episodes, tmp_path / "other")
    limits = Limits(((-3.0, 3.0),), (1.0,), (1.0,), (1.0,), 1.0, Box(*((-1.0, 1.0),) * 3))
    replace(DOT, limits=limits).save(tmp_path / "other" / "robot_spec.yaml")
    caches = [FrameCache.open(folder) for folder in (episodes, tmp_path / "other")]
    assert len(Examples(caches, fit_normalizer(caches))) == 2 * len(caches[0])


# --- one robot -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tabletop", "tabletop-suite"])
def test_a_shipped_policy_of_one_robot_is_as_it_was(name, tmp_path) -> None:
    shipped = assets.find("policy", name)
    policy = TandemPolicy.from_pretrained(shipped)
    assert list(policy.robots) == ["tabletop"]
    policy.save_pretrained(tmp_path / "again")
    assert read_config(tmp_path / "again") == read_config(shipped)  # keys that are younger have their defaults
    for file in ("robot_spec.yaml", "normalization.json"):
        assert yaml.safe_load((tmp_path / "again" / file).read_text()) == yaml.safe_load((shipped / file).read_text())
    assert (tmp_path / "again" / "s1.safetensors").read_bytes() == (shipped / "s1.safetensors").read_bytes()
    np.testing.assert_array_equal(observe(policy), observe(TandemPolicy.from_pretrained(tmp_path / "again")))
