"""The tandem policy behind LeRobot's interface acts, learns and refuses as `vla` does."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.rollout.inference.rtc import supports_rtc_inference

from lerobot_policy_tandem.configuration_tandem import TandemConfig, robot_features
from lerobot_policy_tandem.modeling_tandem import TandemPolicy
from lerobot_policy_tandem.training import training_batch
from vla import tandem
from vla.errors import UserError
from vla.robots.gym_sim import make_robot
from vla.runtime.loop import ControlLoop, Timing
from vla.s1.system import FastConfig
from vla.spec import RobotSpec
from vla.training.delays import DelayConfig

TASKS = ["lift the red cube", "push the blue ball to the left"]
TIMING = Timing(s2_delay=0.2, s2_period=0.3, s1_delay=2)


@pytest.fixture(scope="module")
def tabletop():
    """The shipped policy, which vla trained, as LeRobot's."""
    return TandemPolicy.from_pretrained("tabletop")


@pytest.fixture
def tiny(untrained):
    return TandemPolicy.from_pretrained(untrained)


def as_lerobot(observation, task):
    """What lerobot-eval gives a policy, of one environment."""
    images = {f"observation.images.{name}": lerobot_image(image) for name, image in observation.images.items()}
    return {**images, "observation.state": torch.from_numpy(observation.state)[None], "task": [task]}


def lerobot_image(image):
    return torch.from_numpy(image).movedim(-1, 0)[None].float() / 255


def test_acts_as_vla_does_step_for_step_under_delays(tabletop, untrained):
    tabletop.config.timing = TIMING
    tabletop.reset()
    with make_robot("tabletop") as robot:
        robot.reset(3)
        loop = ControlLoop(tandem.TandemPolicy.from_pretrained("policies/tabletop"), robot, TIMING)
        loop.instruct(robot.instruction)
        sent = []
        command = robot.command
        robot.command = lambda action: sent.append(action) or command(action)
        for _ in range(16):
            action = tabletop.select_action(as_lerobot(robot.observe(), robot.instruction))
            loop.step()
            np.testing.assert_array_equal(action[0].numpy(), sent[-1])
    assert np.abs(np.array(sent)).max() > 0


def test_an_engine_beside_the_weights_is_left_alone(untrained, tmp_path):
    """It would go on with the old weights while others are trained, and stay on the CPU."""
    folder = shutil.copytree(untrained, tmp_path / "exported")
    (folder / tandem.ENGINE_FILE).write_bytes(b"")
    assert TandemPolicy.from_pretrained(folder).tandem.engine is None


def random_batch(count, seed=0):
    rng = np.random.default_rng(seed)
    images = {
        f"observation.images.{name}": torch.from_numpy(rng.integers(0, 256, (count, 3, 96, 96)) / 255).float()
        for name in ("front", "wrist")
    }
    state = torch.from_numpy(rng.normal(size=(count, 17)).astype(np.float32))
    return {**images, "observation.state": state, "task": TASKS[:count]}


def test_environments_of_a_batch_do_not_know_of_each_other(tiny):
    together = [tiny.select_action(random_batch(2, step)) for step in range(6)]
    for row in range(2):
        tiny.reset()
        for step in range(6):
            alone = {key: values[row : row + 1] for key, values in random_batch(2, step).items()}
            assert torch.equal(tiny.select_action(alone)[0], together[step][row])


def test_a_chunk_repeats_the_actions_that_are_executed_while_it_is_computed(tiny):
    batch = random_batch(1)
    free = tiny.predict_action_chunk(batch)
    assert free.shape == (1, 8, 7)
    left = torch.cat([free[0, 2:5] * 0.5, torch.zeros(4, 7)])
    bound = tiny.predict_action_chunk(batch, inference_delay=2, prev_chunk_left_over=left)
    assert torch.equal(bound[0, :2], left[:2]) and not torch.equal(bound[0, 2:], free[0, 2:])
    padded = tiny.predict_action_chunk(batch, inference_delay=6, prev_chunk_left_over=left)
    assert torch.equal(padded[0, :3], left[:3]) and padded[0, 3:6].any()


def test_real_time_chunking_is_claimed_only_by_a_policy_that_was_trained_for_it(tiny):
    assert supports_rtc_inference(tiny)
    tiny.config.delays = DelayConfig(max_prefix=0)
    assert not supports_rtc_inference(tiny)


def dataset_batch(config, frames):
    """As LeRobot loads it; every picture is as bright as the number of its frame, the action too."""
    frames = np.asarray(frames)
    grid = np.maximum(frames[:, None] + config.observation_delta_indices, 0)
    pictures = torch.from_numpy(np.tile(grid[..., None, None, None], (1, 1, 3, 8, 8)) / 255).float()
    return {
        "observation.images.front": pictures,
        "observation.images.wrist": pictures,
        "observation.state": torch.zeros(len(frames), grid.shape[1], 17),
        "action": torch.full((len(frames), 8, 7), 0.01),
        "action_is_pad": torch.arange(8).expand(len(frames), 8) >= 5,
        "timestamp": torch.from_numpy(frames / 20).float(),
        "task": ["lift the red cube"] * len(frames),
    }


def test_s2_is_shown_the_picture_of_as_long_ago_as_s1_is_told(tiny):
    tiny.config.ages = (0, 5, 20, 40)
    frames = np.tile([0, 3, 30, 100], 32)
    batch = dataset_batch(tiny.config, frames)
    fast, seen = training_batch(tiny.tandem, tiny.config, batch, np.random.default_rng(0))
    assert (fast["images"]["wrist"][:, 0, 0, 0].numpy() == frames).all()
    age = fast["age"].numpy()
    known = ~np.isnan(age)
    assert 0 < (~known).sum() < 20
    np.testing.assert_allclose(seen[:, 0, 0, 0, 0].numpy()[known], frames[known] - 20 * age[known], atol=1e-3)
    assert set(np.round(20 * age[known & (frames == 100)]).astype(int)) == {0, 5, 20, 40}
    assert age[known & (frames == 3)].max() == pytest.approx(3 / 20)


def test_actions_past_the_end_hold_and_do_not_count(tiny):
    batch = dataset_batch(tiny.config, [50])
    fast, _ = training_batch(tiny.tandem, tiny.config, batch, np.random.default_rng(0))
    assert fast["valid"].tolist() == [[True] * 5 + [False] * 3]
    actions = tiny.tandem.normalizer.action.denormalize(fast["actions"].numpy())[0]
    np.testing.assert_allclose(actions[5:, :6], 0, atol=1e-3)
    np.testing.assert_allclose(actions[:, 6], 0.01, atol=1e-3)


@pytest.mark.parametrize("train_s2", [False, True])
def test_actions_teach_s2_only_if_asked_to(untrained, train_s2):
    config = TandemPolicy.from_pretrained(untrained).config
    config.train_s2 = train_s2
    config.delays = DelayConfig(no_prefix=1)  # with one longer than the episode's rest there is nothing to learn
    policy = TandemPolicy.from_pretrained(untrained, config=config).train()
    loss, _ = policy.forward(dataset_batch(config, [10, 20]))
    loss.backward()
    assert policy.s2.training == train_s2
    assert (policy.s2.queries.grad is not None) == train_s2
    assert any(p.grad is not None and p.grad.any() for p in policy.s1.parameters())
    trained = {id(p) for group in policy.get_optim_params() for p in group["params"]}
    assert (id(policy.s2.queries) in trained) == train_s2


def new_config(spec, **changes):
    features = robot_features(spec)
    output = {"action": features.pop("action")}
    return TandemConfig(device="cpu", input_features=features, output_features=output, **changes)


@pytest.fixture
def meta(untrained, tmp_path):
    """LeRobot's metadata of a dataset without frames."""
    (tmp_path / "meta").mkdir()
    RobotSpec.load(untrained / "robot_spec.yaml").save(tmp_path / "meta" / "robot_spec.yaml")
    return SimpleNamespace(root=tmp_path, fps=20)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, "policy.s2 is not given"),
        ({"s2": "tabeltop"}, "did you mean tabletop?"),
        ({"s2": "tabletop", "ages": (60,)}, "policy.ages goes back 3 s, beyond policy.fast.max_age 2 s"),
        ({"s2": "tabletop", "robot": "nobody"}, "unknown robot 'nobody'"),
    ],
)
def test_a_new_policy_says_what_it_lacks(tiny, meta, changes, complaint):
    with pytest.raises(UserError) as refusal:
        TandemPolicy(new_config(tiny.tandem.spec, **changes), dataset_meta=meta)
    assert complaint in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_robot_may_have_other_names_for_its_cameras(dataset, untrained, tmp_path):
    spec = RobotSpec.load(untrained / "robot_spec.yaml")
    cameras = tuple(replace(camera, name=name) for camera, name in zip(spec.cameras, ("top", "hand"), strict=True))
    renamed, meta = replace(spec, cameras=cameras), SimpleNamespace(root=dataset, fps=20)
    renamed.save(tmp_path / "arm.yaml")
    given = {"s2": str(untrained), "robot": str(tmp_path / "arm.yaml")}
    fast = FastConfig(("top", "hand"), channels=(16,) * 4, width=32, layers=1, heads=2, mlp=32, horizon=8)
    with pytest.raises(UserError, match=r"no camera front; give --policy\.s2_cameras=\[NAME\], of top, hand"):
        TandemPolicy(new_config(renamed, **given, fast=fast), dataset_meta=meta)
    with pytest.raises(UserError, match=r"no camera front; give --policy\.fast\.cameras=\[NAME\], of top, hand"):
        TandemPolicy(new_config(renamed, **given, s2_cameras=("top",)), dataset_meta=meta)
    policy = TandemPolicy(new_config(renamed, **given, s2_cameras=("top",), fast=fast), dataset_meta=meta)
    policy.save_pretrained(tmp_path / "policy")
    again = TandemPolicy.from_pretrained(tmp_path / "policy")
    assert again.tandem.s2.config.cameras == ("top",) and again.tandem.s1.config.cameras == ("top", "hand")


def test_a_dataset_without_a_robot_is_refused(tiny, meta):
    (meta.root / "meta" / "robot_spec.yaml").unlink()
    with pytest.raises(UserError, match=r"has no meta/robot_spec\.yaml"):
        TandemPolicy(new_config(tiny.tandem.spec, s2="tabletop"), dataset_meta=meta)


def test_a_dataset_of_another_robot_is_refused_with_what_differs(tiny, meta, untrained):
    path = meta.root / "meta" / "robot_spec.yaml"
    path.write_text(path.read_text().replace("1 = open, 0 = closed", "0 = open, 1 = closed"))
    with pytest.raises(UserError, match=r"trained for another robot: action\.gripper is"):
        TandemPolicy.from_pretrained(untrained, config=tiny.config, dataset_meta=meta)


def test_an_option_that_contradicts_the_checkpoint_is_refused(tiny, untrained):
    tiny.config.replan_steps = 2
    with pytest.raises(UserError, match=r"policy\.replan_steps is 2, but checkpoint .* has 4"):
        TandemPolicy.from_pretrained(untrained, config=tiny.config)


def test_an_environment_of_another_robot_is_refused(tiny, untrained):
    config = new_config(tiny.tandem.spec, fast=tiny.config.fast)
    config.output_features = {"action": PolicyFeature(FeatureType.ACTION, (14,))}
    with pytest.raises(UserError, match=r"action of the dataset or environment has shape \(14,\)"):
        TandemPolicy.from_pretrained(untrained, config=config)
