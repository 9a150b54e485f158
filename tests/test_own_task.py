"""The tutorial `docs/own-task.md`: its files as they stand there, its commands on little data and a tiny recipe."""

import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from vla.cli import main
from vla.errors import UserError
from vla.spec import RobotSpec

ROOT = Path(__file__).parents[1]
TINY = {
    "replan_steps": 4,
    "slow": {"cameras": []},
    "fast": {"cameras": [], "image_size": [48, 48], "channels": [8, 16], "horizon": 8, "width": 32, "layers": 1},
    "stages": [{"stage": "s1", "loop": {"steps": 20, "warmup": 1, "eval_every": 20}, "s1": {"batch": 16, "stride": 8}}],
}


def blocks(kind: str) -> list[str]:
    text = (ROOT / "docs" / "own-task.md").read_text()
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def board(tmp_path, monkeypatch) -> Path:
    """A folder with the tutorial's package, where Python finds it."""
    for block in (*blocks("python"), *blocks("yaml")):
        file = tmp_path / block.splitlines()[0].removeprefix("# ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(block)
    for name in [name for name in sys.modules if name.split(".")[0] == "board"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    return tmp_path


def test_the_commands_of_the_tutorial_work(board: Path, untrained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (board / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    shorter = {
        "--recipe own-robot": "--recipe tiny.yaml",
        "--s2 tabletop": f"--s2 {untrained}",
        "--episodes 1000": "--episodes 20",
        "--episodes 200": "--episodes 1",
        "--episodes 100": "--episodes 2",
    }
    lines = [line for line in blocks("sh")[0].splitlines() if not line.startswith("export")]
    assert [line.split()[1] for line in lines] == ["collect", "train", "eval", "rollout", "collect"]
    for line in lines:
        for long, short in shorter.items():
            line = line.replace(long, short)
        argv = shlex.split(line)[1:]
        assert main([*argv, *(["--workers", "1"] if argv[0] in ("collect", "eval") else [])]) == 0, line
    corrected = "collect --env board:BOARD --episodes 1 --policy runs/board/policy --corrected --out data/corrected"
    assert main([*corrected.split(), "--workers", "1"]) == 0
    told = json.loads((board / "board.json").read_text())
    assert (told["env"], told["episodes"], list(told["per_task"])) == ("board:BOARD", 2, ["reach"])
    assert (board / "board.mp4").stat().st_size > 1000
    assert RobotSpec.load(board / "data" / "board" / "meta" / "robot_spec.yaml").name == "board"
    assert "20 episodes" in capsys.readouterr().out


def test_an_instruction_that_cannot_be_asked_is_said(board: Path, untrained: Path, capsys) -> None:
    from vla.robots.gym_sim import make_robot

    with make_robot("board:BOARD") as robot:
        robot.reset(0)
        assert [one.target for one in robot.instructions()] == ["red", "green", "blue"]
    assert main(["eval", "--policy", str(untrained), "--env", "board:BOARD", "--episodes", "1", "--workers", "1"]) == 2
    assert "this policy was trained for another robot" in capsys.readouterr().err


def test_an_id_that_is_not_registered_is_named(board: Path) -> None:
    from vla.robots.gym_sim import GymRobot, find_environment

    misspelt = replace(find_environment("board:BOARD"), id="bord/Board-v0")
    with pytest.raises(UserError, match="environment bord/Board-v0: Namespace bord not found"):
        GymRobot(misspelt).connect()


def test_what_its_environment_lacks_is_one_line_before_anything_is_played(board: Path, untrained: Path, capsys) -> None:
    from vla.bench.perturbations import Study, bench_perturbations

    assert main(["eval", "--policy", str(untrained), "--env", "board:BOARD", "--episodes", "1", "--real-time"]) == 2
    err = capsys.readouterr().err
    assert "environment board/Board-v0 cannot run in real time" in err and err.count("\n") == 1
    with pytest.raises(UserError, match="cannot be perturbed"):
        bench_perturbations(Study("expert", "board:BOARD", ("all",), 1, 0), board / "out", 1, loaded=object())
    assert not (board / "out" / "points").exists()


def test_still_scenes_of_an_environment_without_sizes_are_refused_in_one_line(board: Path, capsys) -> None:
    (board / "board" / "labels.py").write_text("CLASSES, FAMILIES = ('circle',), ('reach',)\n")
    assert main(["collect", "--env", "board:BOARD", "--stills", "2", "--workers", "1", "--out", str(board / "s")]) == 2
    assert "has no still scenes: it must take obs_size and render" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            "nowhere:BOARD",
            r"nowhere:BOARD: No module named 'nowhere'; is the module's folder in PYTHONPATH",
        ),
        ("json:BOARD", "module 'json' has no attribute 'BOARD'"),
        ("json:dumps", r"json:dumps: that is no vla\.robots\.gym_sim\.Environment"),
    ],
)
def test_an_environment_that_is_not_there_is_one_line(env, message, tmp_path, capsys) -> None:
    assert main(["collect", "--env", env, "--episodes", "1", "--out", str(tmp_path / "data")]) == 2
    err = capsys.readouterr().err
    assert re.search(message, err) and err.count("\n") == 1
