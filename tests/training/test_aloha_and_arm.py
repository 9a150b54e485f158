"""The recipe for two robots trains one policy on both, seconds long here, and it drives either."""

import json

import numpy as np
import pytest
import yaml

pytest.importorskip("gym_aloha")

import torch
from gym_aloha.tasks.sim import BimanualViperXTask
from short_episodes import write_beginnings

from vla import assets
from vla.cli import main
from vla.data.attempts import expert_maker
from vla.data.stills import StillSettings, collect_stills
from vla.evaluation.suites.aloha.env import AlohaEnv
from vla.robots.gym_sim import find_environment, make_robot
from vla.runtime.loop import Timing
from vla.runtime.variants import build_loop
from vla.tandem import TandemPolicy
from vla.training.run import train

ROBOTS = {"tabletop": "lift", "aloha": "transfer_cube"}
LENGTH = 6


class Wave:
    """Raises both arms of ALOHA and opens their hands."""

    def __init__(self, env: AlohaEnv, rng: np.random.Generator) -> None:
        self.physics = env._envs[env.task]._env.physics

    def act(self) -> np.ndarray:
        joints = BimanualViperXTask.get_qpos(self.physics)
        joints[[1, 8]] -= 0.05
        joints[[6, 13]] = 1.0
        return joints


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("both")
    plan = yaml.safe_load(assets.find("recipe", "tabletop-aloha").read_text())
    plan["shape"] = {"channels": [8, 8, 8, 16], "width": 16, "layers": 1, "heads": 2, "mlp": 16}
    plan["fast"] |= plan["shape"]
    for stage, steps in zip(plan["stages"], (2, 60, 2), strict=True):
        stage["loop"] |= {"steps": steps, "warmup": 1, "log_every": 2, "eval_every": max(2, steps // 6), "lr": 0.002}
        kind = stage["stage"]
        if kind != "s1":
            stage.setdefault("words", {}).update({"images": 2, "captions": 1})
        if kind != "words":
            (stage["joint"] if kind == "joint" else stage)["s1"].update({"batch": 8, "held_out": 8})
    (folder / "tiny.yaml").write_text(yaml.safe_dump(plan))
    collect_stills(StillSettings("tabletop", 0, "lift", 96), 10, folder / "stills", workers=1)
    experts = {"tabletop": expert_maker(find_environment("tabletop")), "aloha": Wave}
    for name, task in ROBOTS.items():
        with make_robot(name, task=task) as robot:
            write_beginnings(folder / name, robot, experts[name], LENGTH)
    train([folder / name for name in ("stills", *ROBOTS)], folder / "run", folder / "tiny.yaml", "cpu")
    return folder / "run"


def test_both_are_trained_and_measured(run) -> None:
    for stage in ("2-s1", "3-joint"):
        lines = [json.loads(line) for line in (run / stage / "log.jsonl").read_text().splitlines()]
        trained, held_out = (next(x for x in reversed(lines) if x["kind"] == kind) for kind in ("train", "held_out"))
        for robot in ROBOTS:
            assert np.isfinite(trained[robot]) and 0 < held_out[f"{robot} l1"] < 1


@pytest.mark.parametrize("name", ROBOTS)
def test_it_drives_either(run, name) -> None:
    with make_robot(name, task=ROBOTS[name]) as robot:
        policy = TandemPolicy.from_pretrained(run / "policy", robot=robot.spec)
        robot.reset(0)
        loop = build_loop("two-speed", policy, robot, Timing(s2_delay=0.05))
        with torch.inference_mode():
            trace = loop.run(robot.instruction, 6, lambda: robot.finished)
        assert trace.steps == 6 and trace.s1_ms and trace.s2_ms


def test_other_environments_are_refused_in_one_line(run, capsys) -> None:
    pytest.importorskip("metaworld")
    words = ["eval", "--policy", str(run / "policy"), "--env", "metaworld", "--episodes", "1", "--workers", "1"]
    assert main(words) == 2
    assert "is of the robots tabletop, aloha; metaworld is none of them" in capsys.readouterr().err
