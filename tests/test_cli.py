"""The `vla` command: bad usage is one line and exit code 2; importing it is quick."""

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vla import assets
from vla.cli import bench, main
from vla.errors import UserError
from vla.spec import RobotSpec


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    try:
        code = main([str(word) for word in argv])
    except SystemExit as leave:
        code = int(leave.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, vla.cli; print(sorted({'torch', 'numpy', 'mujoco', 'transformers', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "argv",
    [
        "",
        "fly",
        "eval --policy x --episodes -3",
        "eval --policy x --episodes many",
        "eval --policy x --s2-delay -0.1",
        "eval --policy x --variant slow",
        "bench latency --tasks fold",
        "eval --policy x --s2-period nan",
        "eval --policy x --s1-delay -1",
        "eval --policy x --workers 0",
        "eval --policy no-such-policy",
        "eval --policy x --env no-such-env",
        "eval",
        "rollout --policy no-such-policy",
        "rollout --policy no-such-policy --real-time",
        "rollout --policy tabletop --real-time --s1-delay 2",
        "rollout --policy tabletop --real-time --seconds soon",
        "rollout --policy tabletop --real-time --seconds 0",
        "collect --env tabletop --out /tmp/never-made",
        "collect --env tabletop --episodes 1 --out /proc/nothing/here",
        "collect --env tabletop --stills -1 --out /tmp/never-made",
        "train --dataset /no/such/folder --out /tmp/never-made",
        "train --dataset /no/such/folder:2 --out /tmp/never-made",
        "train --dataset /tmp:0 --out /tmp/never-made",
        "train --dataset /tmp:often --out /tmp/never-made",
        "train --dataset /tmp --out /tmp/never-made --device tpu",
        "train --dataset /tmp --out /tmp/never-made --recipe no-such-recipe",
        "describe --policy x --image /no/such.png what",
        "spec check /no/such.yaml",
        "spec diff tabletop",
        "spec init /no/such/folder",
        "spec init /tmp",
        "eval --policy tabletop --dataset /no/such/folder",
        "eval --policy tabletop --all-episodes",
        "train --dataset /tmp --out /tmp/never-made --policy tabletop --s2 tabletop",
        "bench juggling",
        "bench soak --seconds 0",
        "bench policies --minutes 0",
        "bench actions --episodes 3",
        "data",
        "data import hdf4 /tmp --card bridge_dataset --out /tmp/never-made",
        "data import rlds /no/such/folder --card bridge_dataset --out /tmp/never-made",
        "data import rlds /tmp --card no-such-card --out /tmp/never-made",
        "data import rlds /tmp --out /tmp/never-made",
        "serve --policy tabletop --port 70000",
        "teleop --out /tmp/never-made --port 70000",
        "teleop --out /tmp/never-made --reserve-gb -1",
        "eval --policy ~nosuchuser/x",
        f"rollout --policy {'x' * 300}",
        f"describe --policy tabletop --image {'x' * 300} what",
        "spec check ~nosuchuser/x",
        f"spec check {'x' * 300}",
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], argv: str) -> None:
    code, out, err = run(capsys, *argv.split())
    assert code == 2 and out == ""
    assert err.startswith("vla") and err.count("\n") == 1 and "Traceback" not in err
    assert not Path("/tmp/never-made").exists()


ARM = "--policy tabletop --robot lerobot --spec tabletop --robot-config type=so101 --instruction lift --seconds 9"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (f"rollout {ARM} --real-time", "--real-time is for environments, not for --robot"),
        (f"rollout {ARM} --env tabletop-suite", "--env is for environments, not for --robot"),
        (f"rollout {ARM} --out /tmp/never-made", "--out is for environments, not for --robot"),
        (f"rollout {ARM} --s1-delay 1", "--s1-delay is for simulated time, not for --robot lerobot"),
        (f"rollout {ARM} --domain 3", "--domain is for --robot dds"),
        ("rollout --policy tabletop --robot dds --spec tabletop --robot-config a=1", "--robot-config is for --robot l"),
        ("rollout --policy tabletop --spec tabletop", "--spec is for --robot"),
        ("rollout --policy tabletop --real-time --loopback", "--loopback is for --robot"),
        ("rollout --policy tabletop --real-time --video /tmp/never-made", "--video is for simulated time"),
        ("rollout --policy tabletop --out /tmp/never-made", "--out is for --real-time"),
        ("eval --policy tabletop --dataset /tmp --episodes 3", "--episodes is for environments, not for --dataset"),
        ("eval --policy tabletop --dataset /tmp --task lift", "--task is for environments, not for --dataset"),
        ("eval --policy tabletop --dataset /tmp --s2-delay 0.2", "--s2-delay is for environments, not for --dataset"),
        ("eval --policy tabletop --dataset /tmp --workers 99", "--workers is for environments, not for --dataset"),
        ("eval --policy tabletop --real-time --workers 99", "--workers is for simulated time, not for --real-time"),
        ("data doctor /tmp --env metaworld", "--env is for --replay"),
        ("data doctor /tmp --episodes 3", "--episodes is for --replay and --policy"),
        ("data doctor /tmp --replay --device cpu", "--device is for --policy"),
        ("data view /tmp --rerun /tmp/never-made --html /tmp/never-made", "--html is not written beside --rerun"),
        ("data annotate /tmp --truth --camera front", "--camera is for --vlm"),
        ("data annotate /tmp --policy tabletop --frames 3", "--frames is for --vlm"),
        ("data annotate /tmp --policy tabletop --tries 1", "--tries is for --vlm"),
        ("data annotate /tmp --truth --tokens 9", "--tokens is for --vlm"),
        ("data annotate /tmp --vlm some/vlm --every 1", "--every is for --policy"),
        ("data annotate /tmp --truth --device cpu", "--device is for --vlm and --policy"),
        ("teleop --out /tmp/never-made --instruction lift", "--instruction is for a robot that is not simulated here"),
        ("teleop --out /tmp/never-made --spec tabletop", "--spec is for a robot that is not simulated here"),
        ("teleop --out /tmp/never-made --robot dds --spec a --robot-config a=1", "--robot-config is for --robot l"),
        ("teleop --out /tmp/never-made --domain 3", "--domain is for --robot dds"),
        ("teleop --out /tmp/never-made --device keyboard --port 80", "--port is for --device web"),
        ("teleop --out /tmp/never-made --device-units rad", "--device-units is for --device lerobot"),
        ("teleop --out /tmp/never-made --episodes 5", "--episodes is for --device scripted"),
        ("teleop --out /tmp/never-made --device scripted --heartbeat 1", "--heartbeat is for a person"),
        ("teleop --out /tmp/never-made --policy-device cpu", "--policy-device is for --policy"),
        ("eval --policy tabletop --dataset /tmp --swap", "--perturb is for environments, not for --dataset"),
        ("bench words --tasks lift", "--tasks is not for words"),
        ("bench runtime --episodes 5", "--episodes is not for runtime"),
        ("bench sim --device cpu", "--device is not for sim"),
        ("bench dds --seed 3", "--seed is not for dds"),
        ("bench dds --episodes 5 --seconds 10", "--seconds is not for dds --episodes"),
        ("bench suites --episodes 20", "--episodes is not for suites"),
        ("bench suites --experts --policy tabletop", "--policy is not for suites --experts"),
        ("bench serve --env tabletop", "--env is not for serve"),
        ("bench policies --policy tabletop", "--policy is not for policies"),
        ("bench perturbations --peer tabletop", "--peer is not for perturbations"),
    ],
)
def test_what_would_be_ignored_is_refused(capsys: pytest.CaptureFixture[str], argv: str, words: str) -> None:
    code, out, err = run(capsys, *argv.split())
    assert (code, out) == (2, "") and words in err and err.count("\n") == 1


@pytest.fixture
def benched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[argparse.Namespace]:
    """What benches, which are not run, were given."""
    given: list[argparse.Namespace] = []
    for name, (about, _) in bench.BENCHES.items():
        monkeypatch.setitem(bench.BENCHES, name, (about, lambda args: given.append(args) or {}))
    monkeypatch.setattr(bench, "existing_folder", Path)
    monkeypatch.chdir(tmp_path)
    return given


def test_a_bench_takes_what_its_documents_give_it(
    capsys: pytest.CaptureFixture[str], benched: list[argparse.Namespace]
) -> None:
    root = Path(__file__).parents[1]
    pages = [root / "README.md", *root.glob("docs/*.md"), *root.glob("policies/**/README.md")]
    texts = [page.read_text().replace("\\\n", "") for page in [*pages, *root.glob("policies/contests/*.yaml")]]
    commands = [shlex.split(words) for text in texts for words in re.findall(r"vla bench ([^`#\n]+)", text)]
    for words in commands:
        assert run(capsys, "bench", *words) == (0, "", ""), words
    assert {args.what for args in benched} > {"latency", "perturbations", "policies", "runtime", "soak", "words"}


@pytest.mark.parametrize(
    ("argv", "policy"),
    [
        ("latency", "tabletop-suite"),
        ("latency --env tabletop", "tabletop"),
        ("perturbations --env metaworld-mt10", "tabletop"),
        ("words --env tabletop --policy tabletop-suite", "tabletop-suite"),
        ("serve", "tabletop"),
        ("dds --episodes 3", "tabletop"),
    ],
)
def test_what_is_measured_unless_it_is_named_was_taught_the_environment(
    capsys: pytest.CaptureFixture[str], benched: list[argparse.Namespace], argv: str, policy: str
) -> None:
    assert run(capsys, "bench", *argv.split()) == (0, "", "")
    assert benched[0].policy == policy


@pytest.mark.parametrize(
    ("argv", "package"),
    [
        ("collect --env tabletop --episodes 1 --out /tmp/never-made", "lerobot"),
        ("teleop --device keyboard --out /tmp/never-made", "lerobot"),
        ("data import rlds /tmp --card bridge_dataset --out /tmp/never-made", "datasketches"),
        ("data import hdf5 /tmp --card libero --out /tmp/never-made", "h5py"),
        ("data import rosbag2 /tmp --spec tabletop --out /tmp/never-made", "rosbags"),
        ("data export rosbag2 /tmp --out /tmp/never-made", "rosbags"),
        ("data doctor DATASET", "pyarrow"),
        ("data view DATASET", "pyarrow"),
        ("data annotate DATASET --truth", "pyarrow"),
        ("data stats DATASET", "datasketches"),
        ("data cache DATASET", "datasketches"),
        ("spec init DATASET", "pyarrow"),
    ],
)
def test_a_package_that_is_missing_is_named_with_what_installs_it_before_any_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, argv: str, package: str
) -> None:
    for folder in ("data/chunk-000", "meta/episodes/chunk-000"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file-000.parquet").touch()
    info = {"codebase_version": "v3.0", "fps": 20, "features": {}, "total_frames": 1, "total_episodes": 1}
    (tmp_path / "meta" / "info.json").write_text(json.dumps(info))
    monkeypatch.setitem(sys.modules, package, None)
    code, out, err = run(capsys, *argv.replace("DATASET", str(tmp_path)).split())
    assert (code, out, err) == (2, "", f"vla: Python package {package} is missing: pip install 'vla[data]'\n")
    assert not Path("/tmp/never-made").exists()


def test_unless_asked_otherwise_nothing_is_driven_on_the_seeds_that_are_tested_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr("vla.teleop.command.teleop", given.append)
    for words in ("", "--device scripted", "--seed 3"):
        assert run(capsys, "teleop", "--out", "/tmp/never-made", *words.split()) == (0, "", "")
    assert [options.seed for options in given] == [1_000_000, 1_000_000, 3]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize(
    "argv",
    [
        "describe --policy tabletop --device cuda --image PICTURE what",
        "eval --policy tabletop --device cuda --episodes 1 --workers 1",
        "eval --policy tabletop --device cuda --episodes 2 --workers 2",
        "rollout --policy tabletop --device cuda",
        "rollout --policy tabletop --device cuda --real-time --out OUT",
        "demo --policy tabletop --device cuda --out OUT",
        "collect --env tabletop --episodes 1 --policy tabletop --device cuda --out OUT",
        "serve --policy tabletop --device cuda --port 0",
        "teleop --policy tabletop --policy-device cuda --out OUT",
    ],
)
def test_a_gpu_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, argv: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    words = argv.replace("PICTURE", str(tmp_path / "a.png")).replace("OUT", str(tmp_path / "out"))
    told = "vla: device cuda: this machine's PyTorch sees no CUDA device; use --device cpu\n"
    assert run(capsys, *words.split()) == (2, "", told)


@pytest.mark.parametrize(
    "argv",
    [
        "describe --policy tabletop --device cuda:1 --image PICTURE what",
        "eval --policy tabletop --device cuda:1 --episodes 1 --workers 1",
        "rollout --policy tabletop --device cuda:1",
        "rollout --policy tabletop --device cuda:1 --robot dds --spec tabletop",
        "collect --env tabletop --episodes 1 --policy tabletop --device cuda:1 --out OUT --workers 1",
        "serve --policy tabletop --device cuda:1 --port 0",
        "teleop --policy tabletop --policy-device cuda:1 --out OUT",
        "bench serve --policy tabletop --device cuda:1",
        "bench words --policy tabletop --device cuda:1",
        "bench latency --policy tabletop --env tabletop --episodes 3 --device cuda:1 --workers 1 --out OUT",
    ],
)
def test_the_model_is_loaded_on_the_device_that_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, argv: str
) -> None:
    def load(_: object, device: str = "cpu", robot: object = None) -> None:
        raise UserError(f"on {device}")

    monkeypatch.setattr("vla.tandem.TandemPolicy.from_pretrained", load)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    words = argv.replace("PICTURE", str(tmp_path / "a.png")).replace("OUT", str(tmp_path / "out"))
    code, _, err = run(capsys, *words.split())
    # A process of its own says that there is none.
    assert code == 2 and re.fullmatch(r"vla: (on cuda:1|device cuda:1: .* no CUDA device.*)", err.splitlines()[-1])


def test_a_gpu_gets_one_copy_of_a_policy_unless_more_are_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 2, 5})
    monkeypatch.setattr("vla.evaluation.evaluate.evaluate", lambda *how: given.append(how[-1]))
    monkeypatch.setattr("vla.bench.latency.bench_latency", lambda _, out, workers, device: given.append(workers) or {})
    monkeypatch.setattr("vla.data.collect.collect", lambda **how: given.append(how["workers"]))
    collect = "collect --env tabletop --episodes 2 --out /tmp/never-made"
    for argv in ("eval --policy tabletop", "bench latency", f"{collect} --policy tabletop"):
        for words in ("", "--device cpu", "--workers 4"):
            assert run(capsys, *argv.split(), *words.split())[0] == 0
        assert given == [1, 3, 4], argv
        given.clear()
    assert run(capsys, *collect.split())[0] == 0 and given == [3]  # the experts need none


@pytest.mark.parametrize(
    "command", ["collect", "data", "train", "eval", "rollout", "describe", "demo", "spec", "bench"]
)
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0 and f"usage: vla {command}" in out


def test_the_picture_that_the_readme_asks_about_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[1]
    monkeypatch.chdir(root)
    (words,) = re.findall(r"^vla (describe .+)", (root / "README.md").read_text(), re.MULTILINE)
    code, out, _ = run(capsys, *shlex.split(words))
    assert code == 0 and out.strip()


def test_spec_check_sums_up_a_shipped_robot(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "spec", "check", "tabletop")
    assert code == 0 and "state 17; action 7 (ee_delta)" in out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda spec: replace(spec, ros=spec.ros[1:]), "no stream for front"),
        (lambda spec: replace(spec, ros=(), state=spec.state[1:]), "its state has no joint_position"),
        (lambda spec: replace(spec, ros=(), state=spec.state[:3]), "its action has a gripper, its state has none"),
        (lambda spec: kinematic(spec, model="arm.xml"), "there is no file arm.xml, neither beside the spec nor in /"),
        (lambda spec: kinematic(spec, tool_frame="flange"), "the model has no tool_frame 'flange'"),
        (lambda spec: kinematic(spec, base_frame="link0"), "ee_translation is in frame base; only link0"),
    ],
)
def test_spec_check_finds_what_the_robot_could_not_be_driven_with(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, change: Callable[[RobotSpec], RobotSpec], words: str
) -> None:
    change(RobotSpec.load(assets.find("robot", "tabletop"))).save(tmp_path / "arm.yaml")
    code, out, err = run(capsys, "spec", "check", tmp_path / "arm.yaml")
    assert (code, out) == (2, "") and words in err


def kinematic(spec: RobotSpec, **changes: str) -> RobotSpec:
    assert spec.kinematics
    return replace(spec, kinematics=replace(spec.kinematics, **changes))


def test_the_sections_of_the_documentation_make_a_spec_whose_model_lies_beside_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    docs = Path(__file__).parents[1] / "docs"
    text = "".join((docs / name).read_text() for name in ("ros2.md", "safety.md"))
    blocks = re.findall(r"```yaml\n((?:name|kinematics):.*?)```", text, re.DOTALL)
    (tmp_path / "arm.yaml").write_text("".join(blocks))
    spec = RobotSpec.load(tmp_path / "arm.yaml")
    assert spec.kinematics and spec.limits
    joints = spec.kinematics.joints
    bodies = "".join(f'<body pos="0 0 0.1"><joint name="{name}"/><geom size="0.01"/>' for name in joints)
    model = f'<body name="base">{bodies}<site name="tool"/>{"</body>" * len(joints)}</body>'
    (tmp_path / "my_arm.xml").write_text(f"<mujoco><worldbody>{model}</worldbody></mujoco>")
    code, out, err = run(capsys, "spec", "check", tmp_path / "arm.yaml")
    assert code == 0 and "my_arm: cameras front 640x480" in out and "safety gate: ready" in out, err
    (tmp_path / "recorded").mkdir()
    RobotSpec.load(tmp_path / "arm.yaml").save(tmp_path / "recorded" / "robot_spec.yaml")
    assert run(capsys, "spec", "check", tmp_path / "recorded")[0] == 0, "the model is found from elsewhere too"


def test_spec_check_counts_the_lines_of_a_draft_that_are_still_to_be_checked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = assets.find("robot", "metaworld").read_text()
    (tmp_path / "draft.yaml").write_text(f"# look at every `check`\n{text}")
    assert "check" not in run(capsys, "spec", "check", tmp_path / "draft.yaml")[1]
    (tmp_path / "draft.yaml").write_text(f"{text.rstrip()} # from its range; check\n")
    code, out, _ = run(capsys, "spec", "check", tmp_path / "draft.yaml")
    assert code == 0 and "(docs/safety.md)\nlines that still say check: 1;" in out


def test_spec_diff_tells_equal_from_different(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = tmp_path / "slow.yaml"
    other.write_text(assets.find("robot", "tabletop").read_text().replace("rate_hz: 20", "rate_hz: 10"))
    assert run(capsys, "spec", "diff", "tabletop", "tabletop")[:2] == (0, "no difference\n")
    assert run(capsys, "spec", "diff", "tabletop", other)[:2] == (1, f"rate_hz is 20.0, {other} has 10.0\n")


@pytest.mark.parametrize(("raised", "code"), [(UserError("two\nlines"), 2), (KeyboardInterrupt(), 130), (OSError(), 1)])
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: BaseException, code: int
) -> None:
    def fail(_: object) -> None:
        raise raised

    monkeypatch.setattr("vla.cli.spec._check", fail)
    found, _, err = run(capsys, "spec", "check", "tabletop")
    assert found == code
    assert ("Traceback" in err) == (code == 1)
    assert code == 1 or err.count("\n") == 1
