"""A tiny ACT with random weights, saved as LeRobot saves one."""

import json

import numpy as np
import pytest
import torch

from vla import assets
from vla.spec import RobotSpec

TEXT = 16


@pytest.fixture(scope="session")
def spec():
    return RobotSpec.load(assets.find("robot", "tabletop"))


@pytest.fixture(scope="session")
def act(spec, tmp_path_factory):
    """The folder of its checkpoint, with the spec of the tabletop's robot beside it."""
    pytest.importorskip("lerobot")
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies import make_pre_post_processors
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy

    folder = tmp_path_factory.mktemp("peers") / "act"
    inputs = {
        camera.key: PolicyFeature(FeatureType.VISUAL, (3, camera.height, camera.width)) for camera in spec.cameras
    }
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (spec.state_size,))
    inputs["observation.environment_state"] = PolicyFeature(FeatureType.ENV, (TEXT,))
    config = ACTConfig(
        input_features=inputs,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (spec.action_size,))},
        device="cpu", pretrained_backbone_weights=None, chunk_size=6, n_action_steps=3, dim_model=32, n_heads=2,
        dim_feedforward=32, n_encoder_layers=1, use_vae=False,
    )  # fmt: skip
    torch.manual_seed(0)
    policy = ACTPolicy(config)
    rng = np.random.default_rng(0)
    sizes = {"observation.state": (spec.state_size,), "action": (spec.action_size,)}
    sizes |= {camera.key: (3, 1, 1) for camera in spec.cameras}
    stats = {
        key: {"mean": torch.tensor(rng.normal(size=size)), "std": torch.tensor(rng.uniform(0.5, 2, size))}
        for key, size in sizes.items()
    }
    policy.save_pretrained(folder)
    for processor in make_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(folder)
    spec.save(folder / "robot_spec.yaml")
    return folder


@pytest.fixture(scope="session")
def frames(spec, tmp_path_factory):
    """A training cache of the tabletop's robot."""
    return write_frames(tmp_path_factory.mktemp("peers") / "frames", spec)


@pytest.fixture
def frames_of(tmp_path):
    """Given the name of a robot, makes such a cache for it."""
    return lambda robot: write_frames(tmp_path / robot, RobotSpec.load(assets.find("robot", robot)))


def write_frames(folder, spec):
    """Twenty episodes of six frames, of noise and two instructions."""
    rng = np.random.default_rng(2)
    episodes, length = 20, 6
    count = episodes * length
    folder.mkdir()
    arrays = {c.name: rng.integers(0, 255, (count, c.height, c.width, 3), dtype=np.uint8) for c in spec.cameras}
    arrays |= {
        "state": rng.normal(size=(count, spec.state_size)).astype(np.float32),
        "action": rng.uniform(0, 0.03, (count, spec.action_size)).astype(np.float32),
        "episode": np.repeat(np.arange(episodes, dtype=np.int32), length),
        "progress": np.zeros(count, np.float32),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    spec.save(folder / "robot_spec.yaml")
    (folder / "stats.json").write_text("{}")
    found = [
        {"start": i * length, "stop": (i + 1) * length, "task": ("lift the red cube", "push the blue ball")[i % 2]}
        | {"subtasks": []}
        for i in range(episodes)
    ]
    meta = {"version": 1, "fps": 20.0, "cameras": spec.camera_names, "source": {}, "episodes": found}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder
