"""The loop: what it promises about resuming, averaging, logging and refusing."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from vla.errors import UserError
from vla.s1.encoder import CameraEncoder
from vla.training.loop import LoopConfig, fit

CONFIG = LoopConfig(
    steps=60, lr=1e-2, warmup=5, bf16=False, log_every=2, eval_every=20, checkpoint_minutes=0.0, ema=0.9, seed=3
)


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)


class LineStage:
    """Fit a line. Dropout draws from torch's global random state, which a resumed run must have again."""

    def __init__(self, pause: float = 0.0) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = Line()
        self.pause = pause

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        time.sleep(self.pause)
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return {"x": x, "y": x.sum(-1, keepdim=True)}

    def loss(self, batch):
        error = (self.model.net(batch["x"]) - batch["y"]).square().mean()
        return error, {"error": error.detach()}

    def evaluate(self) -> dict[str, float]:
        batch = self.batch(-1 % 2**31)
        return {"held_out_error": float(self.loss(batch)[0]), "noise": float(torch.rand(()))}


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def curve(out: Path) -> list[dict]:
    return [{k: v for k, v in line.items() if k != "steps_per_s"} for line in lines(out)]


def test_the_loss_falls_and_is_logged_and_drawn(tmp_path):
    stage = LineStage()
    fit(stage, CONFIG, tmp_path)
    train = [line["loss"] for line in lines(tmp_path) if line["kind"] == "train"]
    assert len(train) == 30 and train[-1] < 0.5 * train[0]
    assert [line["step"] for line in lines(tmp_path) if line["kind"] == "held_out"] == [20, 40, 60]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert stage.model.frozen.item() == 1.0


def test_other_gpus_are_let_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    fit(LineStage(), replace(CONFIG, steps=2), tmp_path)  # the random state of GPUs that are not there cannot be had
    assert lines(tmp_path)[-1]["kind"] == "held_out"


def test_a_run_killed_with_kill_9_goes_on_along_the_same_curve(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fit(LineStage(), CONFIG, whole)

    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; from test_loop import *; "
        "fit(LineStage(pause=0.05), CONFIG, Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", script, str(killed), str(Path(__file__).parent)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not (killed / "checkpoint.safetensors").exists() or len(lines_so_far(killed)) < 8:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not any(line["step"] == CONFIG.steps for line in lines_so_far(killed))

    stage = LineStage()
    fit(stage, CONFIG, killed)
    assert curve(killed) == curve(whole)


class Seeing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.camera, self.read = CameraEncoder((8, 16), (8, 8), 8), nn.Linear(8, 1)


class CameraStage(LineStage):
    """How bright a picture is. The weights of its convolutions do not lie in memory in the order of their axes."""

    def __init__(self, killed_at: int | None = None) -> None:
        super().__init__()
        self.model, self.killed_at = Seeing(), killed_at

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        if step == self.killed_at:
            raise KeyboardInterrupt
        x = torch.rand(8, 8, 8, 3, generator=torch.Generator().manual_seed(step))
        return {"x": x, "y": x.mean((1, 2, 3)).unsqueeze(1)}

    def loss(self, batch):
        error = (self.model.read(self.model.camera(batch["x"]).mean(1)) - batch["y"]).square().mean()
        return error, {"error": error.detach()}


def test_moments_of_convolutions_go_on_where_they_were(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fit(CameraStage(), CONFIG, whole)
    with pytest.raises(KeyboardInterrupt):
        fit(CameraStage(killed_at=30), CONFIG, killed)
    fit(CameraStage(), CONFIG, killed)
    assert curve(killed) == curve(whole)


def lines_so_far(out: Path) -> list[dict]:
    log = out / "log.jsonl"
    whole = [text for text in log.read_text().split("\n")[:-1]] if log.exists() else []
    return [json.loads(text) for text in whole]


def test_the_averaged_weights_are_evaluated_and_left_in_place(tmp_path):
    stage = LineStage()
    fit(stage, CONFIG, tmp_path)
    last = [line for line in lines(tmp_path) if line["kind"] == "held_out"][-1]
    stage.model.eval()
    assert stage.evaluate()["held_out_error"] == pytest.approx(last["held_out_error"], abs=1e-5)


def test_a_finished_run_is_not_trained_again(tmp_path):
    fit(LineStage(), CONFIG, tmp_path)
    before = curve(tmp_path)
    stage = LineStage()
    fit(stage, CONFIG, tmp_path)
    assert curve(tmp_path) == before
    last = [line for line in before if line["kind"] == "held_out"][-1]
    stage.model.eval()
    assert stage.evaluate()["held_out_error"] == pytest.approx(last["held_out_error"], abs=1e-5)


def test_another_configuration_in_the_same_folder_is_refused(tmp_path):
    fit(LineStage(), CONFIG, tmp_path)
    with pytest.raises(UserError, match=r"lr was 0.01, is 0.02"):
        fit(LineStage(), replace(CONFIG, lr=0.02), tmp_path)


def test_a_damaged_checkpoint_is_named(tmp_path):
    fit(LineStage(), CONFIG, tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"checkpoint\.safetensors is damaged"):
        fit(LineStage(), CONFIG, tmp_path)


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        fit(LineStage(), CONFIG, tmp_path / "out")


def test_a_run_can_be_given_a_time_instead_of_steps(tmp_path):
    config = replace(CONFIG, seconds=0.3, steps=1, final_lr=0.0, warmup=0)
    fit(LineStage(pause=0.01), config, tmp_path)
    logged = [line for line in lines(tmp_path) if line["kind"] == "train"]
    assert logged[-1]["spent_s"] >= 0.3 and logged[-1]["lr"] == pytest.approx(0, abs=1e-9)
    assert logged[0]["lr"] > 0 and logged[-1]["step"] > 1
    fit(LineStage(), config, tmp_path)
    assert lines(tmp_path)[-1]["step"] == logged[-1]["step"], "its time is up"


def test_what_preparing_a_stage_took_counts_into_its_time(tmp_path):
    config = replace(CONFIG, seconds=60.0, warmup=0)
    fit(LineStage(pause=0.01), config, tmp_path / "out", spent=59.9)
    assert lines(tmp_path / "out")[0]["spent_s"] >= 59.9
    with pytest.raises(UserError, match="seconds is 60, and preparing the stage took 61: give it more"):
        fit(LineStage(), config, tmp_path / "late", spent=61.0)
    assert not (tmp_path / "late").exists()


def test_a_stage_that_saves_does_so_with_every_checkpoint(tmp_path):
    class Saving(LineStage):
        def save(self, out: Path) -> None:
            (out / "saved").write_text(str(self.model.net[0].weight.sum().item()))

    stage = Saving()
    fit(stage, CONFIG, tmp_path)
    assert float((tmp_path / "saved").read_text()) == pytest.approx(stage.model.net[0].weight.sum().item())


def test_the_rate_warms_up_and_falls_along_a_cosine():
    config = LoopConfig(steps=100, lr=1.0, warmup=10, final_lr=0.0)
    assert config.rate(0) == pytest.approx(0.1)
    assert config.rate(10) == pytest.approx(1.0)
    assert config.rate(55) == pytest.approx(0.5)
    assert config.rate(100) == pytest.approx(0.0)
