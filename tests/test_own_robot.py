"""From what `lerobot-record` left to a served policy: the commands of `docs/own-robot.md`, as they stand there."""

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent / "data"))  # for so101_takes.py

from so101_takes import JOINTS, write_takes

from vla import assets
from vla.cli import main
from vla.data.cache import FrameCache, build_cache
from vla.errors import UserError
from vla.spec import RobotSpec
from vla.tandem import TandemPolicy
from vla.training.run import train

TEXT = (Path(__file__).parents[1] / "docs" / "own-robot.md").read_text()
LINES, PYTHON = (re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)[0] for kind in ("sh", "python"))
COMMANDS = {line.split()[1]: shlex.split(line, comments=True)[1:] for line in LINES.splitlines()}


def shorter(recipe: dict) -> dict:
    """The shipped recipe with a small S1 and few steps."""
    loop = {"warmup": 10, "checkpoint_minutes": 60}
    recipe["fast"] |= {"image_size": [48, 64], "channels": [8, 16, 32], "horizon": 16, "width": 48, "layers": 2}
    s1, joint = recipe["stages"]
    s1["loop"] |= {**loop, "steps": 150, "lr": 0.002, "eval_every": 150}
    s1["s1"] |= {"batch": 32, "stride": 8}
    joint["loop"] |= {**loop, "steps": 1, "lr": 1e-6, "eval_every": 1}
    joint["joint"]["s1"] |= {"batch": 2, "held_out": 4}
    return recipe


def typed(folder: Path, command: str, *more: object) -> int:
    """One of the tutorial's commands, in `folder`, with the shorter recipe in place of the shipped one."""
    words = ["tiny.yaml" if word == "own-robot" else word for word in COMMANDS[command]]
    with contextlib.chdir(folder):
        return main([*words, *map(str, more)])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without a spec; tests must not change it."""
    return write_takes(tmp_path_factory.mktemp("company") / "takes")


@pytest.fixture(scope="module")
def company(recorded: Path) -> Path:
    """The folder in which the tutorial's commands are typed."""
    folder = recorded.parent
    shutil.copytree(recorded, folder / "data" / "so101")
    recipe = yaml.safe_load(assets.find("recipe", "own-robot").read_text())
    (folder / "tiny.yaml").write_text(yaml.safe_dump(shorter(recipe)))
    return folder


@pytest.fixture(scope="module")
def dataset(company: Path) -> Path:
    """With the spec that `vla spec init` drafts beside its other metadata."""
    assert typed(company, "spec") == 0
    return company / "data" / "so101"


@pytest.fixture(scope="module")
def run(company: Path, dataset: Path) -> Path:
    """Of `vla train` with the S2 of a policy for another robot."""
    assert typed(company, "train") == 0
    return company / "runs" / "so101"


def test_the_tutorial_has_five_commands() -> None:
    assert list(COMMANDS) == ["spec", "data", "train", "eval", "serve"] and len(LINES.splitlines()) == 5


def test_the_drafted_spec_passes_the_check_and_is_not_overwritten(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["spec", "check", str(dataset)]) == 0
    out = capsys.readouterr().out
    assert "so101_follower: cameras front 64x48, wrist 64x48; state 6; action 6 (joint_position)" in out
    assert main(["spec", "init", str(dataset)]) == 2
    assert "is there already; --force replaces it" in capsys.readouterr().err
    assert RobotSpec.load(dataset / "meta" / "robot_spec.yaml").camera("wrist").mount == "wrist"


def test_the_doctor_reads_it_and_finds_a_clean_recording_clean(
    company: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(company, "data") == 0, capsys.readouterr().out


def test_without_a_spec_training_says_how_to_get_one(recorded: Path, tmp_path: Path, untrained: Path) -> None:
    with pytest.raises(UserError, match=f"no meta/robot_spec.yaml; draft one with vla spec init {recorded}"):
        train([recorded], tmp_path / "run", "own-robot", "cpu", s2=str(untrained))
    assert not (tmp_path / "run").exists()


def test_a_corrected_spec_is_taken_up_without_decoding_again(dataset: Path, tmp_path: Path) -> None:
    before = build_cache(dataset, tmp_path / "cache")
    made = (before.folder / "front.npy").stat().st_mtime_ns
    file = dataset / "meta" / "robot_spec.yaml"
    text = file.read_text()
    try:
        file.write_text(text.replace("mount: fixed", "mount: wrist"))
        after = build_cache(dataset, tmp_path / "cache")
        file.write_text(text.replace("size: 5", "size: 4"))
        with pytest.raises(UserError, match=r"observation.state has shape \(6,\), its robot_spec.yaml \(5,\)"):
            build_cache(dataset, tmp_path / "cache")
    finally:
        file.write_text(text)
    assert (before.spec.camera("front").mount, after.spec.camera("front").mount) == ("fixed", "wrist")
    assert (after.folder / "front.npy").stat().st_mtime_ns == made


def test_training_takes_the_cameras_of_the_data_and_the_s2_of_another_robot(run: Path, dataset: Path) -> None:
    policy = TandemPolicy.from_pretrained(run / "policy")
    assert policy.spec == RobotSpec.load(dataset / "meta" / "robot_spec.yaml")
    assert (policy.s1.config.cameras, policy.s2.config.cameras) == (("front", "wrist"), ("front",))
    before, after = (
        TandemPolicy.from_pretrained(folder).s2 for folder in (assets.find("policy", "tabletop"), run / "policy")
    )
    assert before.tokenizer.get_vocab() == after.tokenizer.get_vocab()


def test_training_goes_on_with_the_same_recipe(company: Path, run: Path, dataset: Path) -> None:
    """The page's line, with a dataset of more takes."""
    shutil.copytree(dataset, company / "data" / "more")
    line = shlex.split(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)[1])[1:]
    with contextlib.chdir(company):
        assert main(["tiny.yaml" if word == "own-robot" else word for word in line]) == 0
    more = company / "runs" / "more"
    before, after = (TandemPolicy.from_pretrained(folder / "policy") for folder in (run, more))
    assert (before.s1.trunk.position != after.s1.trunk.position).any()
    assert [path.name for path in sorted(more.iterdir())][:2] == ["1-s1", "2-joint"]


def test_an_s2_comes_with_its_own_settings(company: Path, dataset: Path, tmp_path: Path, untrained: Path) -> None:
    recipe = yaml.safe_load((company / "tiny.yaml").read_text())
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(recipe | {"slow": {"queries": 3}}))
    with pytest.raises(UserError, match="the recipe's slow differs from the S2 of --s2"):
        train([dataset], tmp_path / "run", tmp_path / "other.yaml", "cpu", s2=str(untrained))


def test_it_beats_holding_still_and_the_mean_on_episodes_it_has_not_seen(
    company: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(company, "eval", "--json", tmp_path / "offline.json") == 0
    told = json.loads((tmp_path / "offline.json").read_text())
    assert (told["episodes"], told["frames"], told["units"]) == (1, 39, ["deg"] * 5 + ["%"])
    assert list(told["error"]) == ["hold still", "mean action", "0 s", "0.5 s", "1 s", "2 s", "no thought"]
    assert told["of_hold_still"]["hold still"] == 1
    assert told["of_hold_still"]["no thought"] < 0.9 < told["of_hold_still"]["mean action"]
    assert "shoulder_pan.pos" in capsys.readouterr().out


def test_the_errors_are_those_of_the_chunks_it_predicts(run: Path, dataset: Path, tmp_path: Path) -> None:
    from vla.evaluation.offline import evaluate_offline

    told, cache = evaluate_offline(str(run / "policy"), dataset), FrameCache.open(dataset)
    policy, episode = TandemPolicy.from_pretrained(run / "policy"), cache.episodes[19]
    errors, held = [], []
    for frame in range(episode.start + 1, episode.stop):
        images = {name: pictures[frame] for name, pictures in cache.images.items()}
        after = cache.action[frame : episode.stop][: policy.config.fast.horizon]
        errors.append(np.abs(policy.act(images, cache.state[frame], None, 0.0)[: len(after)] - after))
        held.append(np.abs(cache.action[frame - 1] - after))
    np.testing.assert_allclose(told["error"]["no thought"], np.concatenate(errors).mean(0), rtol=1e-3)
    np.testing.assert_allclose(told["error"]["hold still"], np.concatenate(held).mean(0), rtol=1e-3)


def test_another_robot_and_a_dataset_too_small_are_refused(
    run: Path, dataset: Path, untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "--policy", str(untrained), "--dataset", str(dataset)]) == 2
    assert "this policy was trained for another robot" in capsys.readouterr().err
    few = write_takes(tmp_path / "few", episodes=2, length=20)
    assert main(["spec", "init", str(few)]) == 0
    words = ["eval", "--policy", str(run / "policy"), "--dataset", str(few)]
    capsys.readouterr()
    assert main(words) == 2 and "no episode is held out" in capsys.readouterr().err
    assert main([*words, "--all-episodes"]) == 0


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The tutorial's server, on any free port: its address."""
    words = ["0" if word == "8000" else word for word in COMMANDS["serve"]]
    command = [sys.executable, "-m", "vla.cli", *words]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = re.search(r"ws://\S+:\d+", server.stdout.readline())
            assert url is not None
            yield url[0]
        finally:
            server.terminate()


def test_the_tutorials_client_asks_the_served_policy_about_a_recorded_frame(company: Path, run: Path) -> None:
    written = 'RemotePolicy("ws://127.0.0.1:8000")'
    assert written in PYTHON
    with served(company) as url, contextlib.chdir(company):
        names: dict = {}
        exec(PYTHON.replace(written, f'RemotePolicy("{url}", timeout=120)'), names)
    images, state, actions = names["images"], names["recorded"].state[names["frame"]], names["actions"]
    own = TandemPolicy.from_pretrained(run / "policy")
    expected = own.act(images, state, own.think(images, "grasp the red square", 0.0), now=0.2)
    assert actions.shape == (16, len(JOINTS))
    np.testing.assert_allclose(actions, expected, rtol=1e-3, atol=1e-2)
    assert 1 < actions[:, 5].max() <= 100  # the gripper, in percent
