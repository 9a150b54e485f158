"""LeRobot's own commands with the plugin installed: train, go on, evaluate; and `vla` with what they leave."""

import json
import math
import re
import shutil
import sys

import pytest
import torch
from lerobot.scripts import lerobot_eval, lerobot_train
from safetensors.torch import load_file

from lerobot_policy_tandem import __main__ as convert
from vla import tandem
from vla.data.join import join_parts
from vla.errors import UserError
from vla.evaluation.episode import Play, play_episode
from vla.evaluation.offline import evaluate_offline
from vla.robots.gym_sim import make_robot
from vla.runtime.loop import Timing
from vla.training.run import train


def run(command, monkeypatch, *arguments):
    """One of LeRobot's commands, in this process."""
    monkeypatch.setattr(sys, "argv", ["lerobot", *map(str, arguments)])
    command.main()


def checkpoint(out, step):
    return out / "checkpoints" / f"{step:06d}" / "pretrained_model"


def test_lerobot_train_finds_the_plugin_and_trains_s1_on_a_frozen_s2(trained, untrained):
    out, said = trained
    losses = [float(loss) for loss in re.findall(r"loss:([\d.]+)", said)]
    assert len(losses) == 4 and all(map(math.isfinite, losses))
    early, late = (tandem.TandemPolicy.from_pretrained(checkpoint(out, step)) for step in (2, 4))
    source = tandem.TandemPolicy.from_pretrained(untrained)
    for name, weight in late.s2.state_dict().items():
        assert torch.equal(weight, source.s2.state_dict()[name]), name
    moved = [name for name, w in late.s1.state_dict().items() if not torch.equal(w, early.s1.state_dict()[name])]
    assert len(moved) > len(late.s1.state_dict()) / 2


def test_processors_and_configuration_are_saved_with_the_checkpoint(trained):
    folder = checkpoint(trained[0], 4)
    assert json.loads((folder / "config.json").read_text())["type"] == "tandem"
    assert (folder / "policy_preprocessor.json").is_file() and (folder / "policy_postprocessor.json").is_file()


def test_a_run_goes_on_as_if_it_had_not_been_stopped(trained, monkeypatch, tmp_path):
    begun = tmp_path / "run"
    shutil.copytree(trained[0] / "checkpoints" / "000002", begun / "checkpoints" / "000002")
    config = checkpoint(begun, 2) / "train_config.json"
    run(lerobot_train, monkeypatch, f"--config_path={config}", "--resume=true", f"--output_dir={begun}")
    whole, resumed = (load_file(checkpoint(out, 4) / "s1.safetensors") for out in (trained[0], begun))
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name


def test_lerobot_train_goes_on_from_what_vla_trained_and_teaches_s2_if_asked(dataset, untrained, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["convert", str(untrained), str(tmp_path / "policy")])
    assert convert.main() == 0
    where = (f"--policy.path={tmp_path / 'policy'}", "--dataset.repo_id=local/lift", f"--dataset.root={dataset}")
    how = ("--policy.train_s2=true", "--policy.device=cpu", "--steps=1", "--batch_size=2", "--num_workers=0")
    run(lerobot_train, monkeypatch, *where, *how, f"--output_dir={tmp_path / 'run'}")
    before, after = (tandem.TandemPolicy.from_pretrained(p) for p in (untrained, checkpoint(tmp_path / "run", 1)))
    assert not torch.equal(after.s2.queries, before.s2.queries)


def test_no_episode_counts_as_held_out_from_what_lerobot_trained(trained, dataset):
    policy = str(checkpoint(trained[0], 4))
    with pytest.raises(UserError, match="was trained by LeRobot, which does not hold out every 20th episode"):
        evaluate_offline(policy, dataset)
    assert evaluate_offline(policy, dataset, all_episodes=True)["episodes"] == 2


def test_vla_train_goes_on_from_what_lerobot_train_left(trained, dataset, tmp_path):
    recipe, policy = tmp_path / "more.yaml", checkpoint(trained[0], 4)
    fast = "channels: [16, 16, 16, 16], width: 32, layers: 1, heads: 2, mlp: 32, horizon: 8"
    stage = "stage: s1, loop: {steps: 2, warmup: 0}, s1: {batch: 8, held_out: 16, stride: 20}"
    recipe.write_text(f"fast: {{{fast}}}\nstages: [{{{stage}}}]\n")
    join_parts([dataset] * 10, tmp_path / "twenty")  # of so many episodes one is held out
    train([tmp_path / "twenty"], tmp_path / "run", recipe, "cpu", str(policy))
    before, after = (tandem.TandemPolicy.from_pretrained(p) for p in (policy, tmp_path / "run" / "policy"))
    assert not torch.equal(after.s1.state.mlp[0].weight, before.s1.state.mlp[0].weight)
    assert after.normalizer.to_dict() == before.normalizer.to_dict()


def test_lerobot_eval_plays_a_policy_that_vla_trained_as_vla_does(monkeypatch, tmp_path):
    seed = 100000
    monkeypatch.setattr(sys, "argv", ["convert", "tabletop", str(tmp_path / "policy")])
    assert convert.main() == 0
    arguments = ("--env.type=tabletop", "--eval.n_episodes=1", "--eval.batch_size=1", f"--seed={seed}")
    where = (f"--policy.path={tmp_path / 'policy'}", "--policy.device=cpu", f"--output_dir={tmp_path / 'eval'}")
    run(lerobot_eval, monkeypatch, *where, *arguments, "--policy.timing.s2_delay=0.2", "--policy.timing.s1_delay=1")
    theirs = json.loads((tmp_path / "eval" / "eval_info.json").read_text())["per_task"][0]["metrics"]
    policy = tandem.TandemPolicy.from_pretrained(tmp_path / "policy")
    with make_robot("tabletop") as robot:
        ours = play_episode(policy, robot, Play(Timing(s2_delay=0.2, s1_delay=1)), seed)
    assert theirs["successes"] == [ours.success] == [True]


def test_converting_what_is_no_checkpoint_is_refused_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["convert", str(tmp_path), str(tmp_path / "out")])
    assert convert.main() == 2
    assert "has no tandem.json" in capsys.readouterr().err
