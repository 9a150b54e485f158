"""`vla data view` shows the frames, numbers and words of an episode."""

import json
import shutil

import pytest

from vla.bench.doctor import synthetic_recording
from vla.cli import main


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return synthetic_recording(tmp_path_factory.mktemp("view") / "episodes", 2, 1, length=(20, 25))


def test_the_page_holds_pictures_plots_and_the_instruction(dataset, tmp_path):
    file = tmp_path / "page.html"
    assert main(["data", "view", str(dataset), "--episode", "1", "--html", str(file)]) == 0
    page = file.read_text()
    assert page.count("data:image/jpeg;base64,") == 16  # eight of each camera
    assert "put the block away" in page and page.count("<polyline") == 12
    assert "Episode 1" in page and "Episode 0" not in page


def test_pictures_with_their_colours_first_are_given_by_their_width_and_height(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    info = json.loads((copy / "meta" / "info.json").read_text())
    info["features"]["observation.images.front"] |= {"shape": [3, 48, 64], "names": ["channels", "height", "width"]}
    (copy / "meta" / "info.json").write_text(json.dumps(info))
    assert main(["data", "view", str(copy), "--html", str(tmp_path / "page.html")]) == 0
    assert "front 64x48, wrist 64x64" in (tmp_path / "page.html").read_text()


def test_an_episode_that_is_not_there_is_named_and_nothing_written(dataset, tmp_path, capsys):
    assert main(["data", "view", str(dataset), "--episode", "7", "--html", str(tmp_path / "page.html")]) == 2
    assert "no episode 7; it has 2, from 0 to 1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_rerun_file_holds_every_frame_of_cameras_state_and_action(dataset, tmp_path):
    pytest.importorskip("rerun")
    file = tmp_path / "episode.rrd"
    assert main(["data", "view", str(dataset), "--episode", "0", "--rerun", str(file)]) == 0
    content = file.read_bytes()
    assert content[:3] == b"RRF" and len(content) > 10_000
    for path in ("/episode_0/front", "/episode_0/wrist", "/episode_0/state/elbow_flex.pos", "/episode_0/instruction"):
        assert path.encode() in content
