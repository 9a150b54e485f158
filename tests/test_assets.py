"""Shipped data is found from a checkout and from an installed wheel; outputs are checked before long work."""

import json
import os
import resource
import signal
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from vla import assets
from vla.cli.common import write_json
from vla.errors import UserError

CHECKOUT = Path(__file__).parents[1]


def test_finds_a_shipped_robot_by_name_and_a_file_by_path(tmp_path: Path) -> None:
    assert assets.find("robot", "tabletop").name == "tabletop.yaml"
    own = tmp_path / "mine.yaml"
    own.write_text("name: mine")
    assert assets.find("robot", own) == own


def test_finds_the_spec_that_a_dataset_or_checkpoint_carries(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no meta/robot_spec\.yaml; draft one with vla spec init"):
        assets.find("robot", tmp_path)
    for folder in (tmp_path / "cache", tmp_path, tmp_path / "meta"):
        folder.mkdir(exist_ok=True)
        (folder / "robot_spec.yaml").write_text("name: mine")
        assert assets.find("robot", tmp_path) == folder / "robot_spec.yaml"


def test_a_policy_is_a_folder_with_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tandem\.json"):
        assets.find("policy", tmp_path)
    (tmp_path / "tandem.json").write_text("{}")
    assert assets.find("policy", tmp_path) == tmp_path


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"unknown robot 'tabeltop'.*shipped are: .*tabletop.*did you mean tabletop\?"):
        assets.find("robot", "tabeltop")


def test_an_unreachable_hub_policy_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="not to be had from the hub") as error:
        assets.find("policy", "nobody/nothing")
    assert "\n" not in str(error.value)


def test_a_writable_folder_passes_and_is_left_as_it_was(tmp_path: Path) -> None:
    assets.check_folder_writable(tmp_path / "a" / "b")
    assets.check_file_writable(tmp_path / "a" / "result.json")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_inside_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "inner"):
        with pytest.raises(UserError, match="output folder: cannot write to"):
            assets.check_folder_writable(folder)
    with pytest.raises(UserError, match="is a folder"):
        assets.check_file_writable(tmp_path)


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path, through_a_link: bool) -> None:
    pipe = file = tmp_path / "pipe"
    os.mkfifo(pipe)
    if through_a_link:
        file = tmp_path / "link"
        file.symlink_to(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assets.check_file_writable(file)
    write_json(file, [1])
    assert json.loads(os.read(reader, 100)) == [1] and pipe.is_fifo() and file.is_symlink() == through_a_link
    os.close(reader)


def test_the_file_that_a_link_leads_to_is_written(tmp_path: Path) -> None:
    link = tmp_path / "newest.json"
    link.symlink_to(Path("runs") / "7.json")
    for number in range(2):
        assets.check_file_writable(link)
        write_json(link, number)
        assert link.is_symlink() and json.loads((tmp_path / "runs" / "7.json").read_text()) == number


def test_a_disk_that_is_full_is_one_line_and_leaves_what_was_there(tmp_path: Path) -> None:
    """No file may grow beyond a thousand bytes."""
    file, limit = tmp_path / "result.json", resource.getrlimit(resource.RLIMIT_FSIZE)
    write_json(file, "old")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(UserError, match=r"^--json: cannot write to .*result\.json: File too large$"):
            write_json(file, "new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert json.loads(file.read_text()) == "old" and list(tmp_path.iterdir()) == [file]
    with pytest.raises(UserError, match="cannot write to /dev/full: No space left on device"):
        write_json(Path("/dev/full"), 1)


def test_the_project_stays_light(tracked: dict[str, int]) -> None:
    assert sum(tracked.values()) < 40e6
    weights = {path: size for path, size in tracked.items() if path.endswith((".safetensors", ".onnx"))}
    assert weights and max(weights.values()) < 16e6


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of an environment that has the built wheel, our dependencies and no way to the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=CHECKOUT, check=True, capture_output=True)
    root = folder / "environment"
    venv.create(root, with_pip=False, symlinks=True)
    # A .pth file inside a folder that a .pth file names is not read, so the editable install stays out.
    (site_packages(root) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    uv = [Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", "--offline", "--no-deps"]
    subprocess.run([*uv, "--python", root / "bin" / "python", next(folder.glob("*.whl"))], check=True)
    return root


def site_packages(root: Path) -> Path:
    return Path(sysconfig.get_path("purelib", vars={"base": str(root)}))


def test_the_wheel_carries_both_packages_and_the_shipped_data(installed: Path) -> None:
    site = site_packages(installed)
    shipped = ("vla/shipped/policies/robots/tabletop.yaml", "vla/shipped/datasets/bridge_dataset.yaml")
    for inside in ("vla/py.typed", "gym_tabletop/__init__.py", *shipped):
        assert (site / inside).is_file(), inside
    assert not list(site.glob("tests")) and not list(site.glob("policies"))


def test_an_installed_copy_finds_its_own_data_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = "from vla import assets; print(assets.find('robot', 'tabletop'))"
    python = installed / "bin" / "python"
    found = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert Path(found.stdout.strip()).is_relative_to(site_packages(installed)), found.stderr


@pytest.mark.skipif(not (CHECKOUT / "policies" / "tabletop").is_dir(), reason="this checkout ships no policy")
def test_an_installed_copy_rolls_out_the_shipped_policy(installed: Path, tmp_path: Path) -> None:
    command = [installed / "bin" / "vla", "rollout", "--policy", "tabletop", "--env", "tabletop", "--seed", "7"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
