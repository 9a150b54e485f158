"""The recipes for MetaWorld: small enough, and they train on what MetaWorld gives."""

import json

import numpy as np
import pytest
import yaml

pytest.importorskip("metaworld")

from short_episodes import write_beginnings

from vla import assets
from vla.data.stills import StillSettings, collect_stills
from vla.evaluation.suites.metaworld.experts import make_expert
from vla.robots.gym_sim import make_robot
from vla.s1.system import FastSystem
from vla.s2.small import small_slow_system
from vla.tandem import TandemPolicy
from vla.training.recipe import load_recipe
from vla.training.run import train

TASK, LENGTH = "drawer-close-v3", 4


@pytest.mark.parametrize("name", ["metaworld-mt10", "metaworld-mt50"])
def test_a_recipe_makes_a_policy_that_the_project_has_room_for(name, tracked):
    recipe = load_recipe(assets.find("recipe", name))
    slow = small_slow_system(["open the drawer"], recipe.slow, recipe.shape)
    slow.model.resize_token_embeddings(recipe.shape.vocabulary, mean_resizing=False)
    fast = FastSystem(recipe.fast, 4, 4, slow.latent_shape)
    in_bf16 = [2 * sum(p.numel() for p in part.parameters()) for part in (slow, fast)]
    assert max(in_bf16) < 16e6 and sum(in_bf16) < 2 * 7.4e6
    others = sum(size for path, size in tracked.items() if not path.startswith("policies/metaworld"))
    assert others + sum(in_bf16) < 40e6


def test_the_mt10_recipe_trains_a_policy_that_drives(tmp_path):
    plan = yaml.safe_load(assets.find("recipe", "metaworld-mt10").read_text())
    plan["shape"] |= {"channels": [8, 8, 8, 16], "width": 16, "layers": 1, "heads": 2, "mlp": 16}
    plan["fast"] |= {"channels": [8, 8, 8, 16], "width": 16, "layers": 1, "heads": 2, "mlp": 16}
    for stage in plan["stages"]:
        stage["loop"] |= {"steps": 2, "warmup": 1, "eval_every": 2}
        kind = stage["stage"]
        if kind != "s1":
            stage.setdefault("words", {}).update({"images": 2, "captions": 1})
        if kind != "words":
            (stage["joint"] if kind == "joint" else stage)["s1"].update({"batch": 4, "held_out": 4})
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(plan))
    collect_stills(StillSettings("metaworld-mt10", 0, TASK, 128), 10, tmp_path / "stills", workers=1)
    with make_robot("metaworld", task=TASK) as robot:
        write_beginnings(tmp_path / "episodes", robot, make_expert, LENGTH)
        train([tmp_path / "stills", tmp_path / "episodes"], tmp_path / "run", tmp_path / "tiny.yaml", "cpu")
        policy = TandemPolicy.from_pretrained(tmp_path / "run" / "policy")
        policy.spec.check_robot(robot.spec)
        seen = robot.reset(0)
        thought = policy.think(seen.images, robot.instruction, 0.0)
        chunk = policy.act(seen.images, seen.state, thought, 0.0)
        assert chunk.shape == (24, 4) and np.isfinite(chunk).all()
    for folder in ("1-words", "2-s1", "3-joint"):
        lines = (tmp_path / "run" / folder / "log.jsonl").read_text().splitlines()
        assert {json.loads(line)["kind"] for line in lines} == {"train", "held_out"}
