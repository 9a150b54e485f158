"""Times depend on the machine; what is driven, recorded and counted does not."""

import shutil

import numpy as np
import pytest

from vla.bench import cockpit, teleop
from vla.errors import UserError


def test_what_is_lost_is_counted_from_the_frames_that_were_seen():
    sent = np.array([0.0, 0.02, 0.04, 0.07, 0.09])
    measured = teleop.Measured(sent, seen=np.array([3, 3, 4, 6, 8]), dropped=1, waiting=7)
    rows = {name: value for name, (value, _) in measured.rows().items()}
    assert rows["camera frames lost"] == pytest.approx(100 * 2 / 6)  # of 3 to 8, nobody saw 5 and 7
    assert rows["steps dropped"] == pytest.approx(20) and rows["pictures waiting at the end"] == 7
    assert rows["largest gap"] == pytest.approx(30) and rows["period error p50"] == pytest.approx(0, abs=1e-9)


def test_too_short_a_run_is_said():
    with pytest.raises(UserError, match="give more --minutes"):
        teleop.Measured(np.zeros(2), np.zeros(2, int), 0, 0).rows()


def nobody_looks(spec, out, seconds):
    raise UserError("the page is not measured: apt install chromium")


def test_both_drive_the_arm_and_record_it(monkeypatch, capsys):
    monkeypatch.setattr(teleop, "HEIGHT", 48)
    monkeypatch.setattr(teleop, "WIDTH", 64)
    monkeypatch.setattr(cockpit, "measure_page", nobody_looks)
    document = teleop.bench_teleop(3.0)
    assert [row["name"] for row in document["rows"]] == [
        *("period error p50", "period error p99", "largest gap"),
        *("camera frames lost", "steps dropped", "pictures waiting at the end"),
    ]
    assert all(row["peer"] == teleop.PEER for row in document["rows"])
    assert "apt install chromium" in capsys.readouterr().err
    assert document["steps"] > 2 and document["peer_steps"] > 2


def test_a_key_is_answered_by_the_first_command_after_it_that_moves_the_arm():
    sent = np.arange(10) * 0.02
    where = [0, 0, 0, 0.1, 0.2, 0.2, 0.2, 0.2, 0.3, 0.3]
    took = cockpit.key_to_command(np.array([0.045, 0.13, 0.175]), sent, [np.array([x, 1.0], np.float32) for x in where])
    np.testing.assert_allclose(took, [0.06 - 0.045, 0.16 - 0.13], atol=1e-9)  # nothing followed the last one


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium: apt install chromium")
def test_a_real_browser_says_how_old_its_pictures_are_and_its_keys_move_the_arm(monkeypatch, tmp_path):
    pytest.importorskip("playwright", reason="needs the Python package playwright")
    monkeypatch.setattr(teleop, "HEIGHT", 48)
    monkeypatch.setattr(teleop, "WIDTH", 64)
    found = cockpit.measure_page(teleop.arm_spec(), tmp_path / "page", 3.0)
    assert set(found) == {
        *("period error p99, page open", "pictures never drawn", "keys without answer"),
        *(f"{what} p{p}" for what in ("camera to page", "key to command") for p in (50, 95, 99)),
    }
    rows = {name: value for name, (value, _) in found.items()}
    for what in ("camera to page", "key to command"):
        assert 0 < rows[f"{what} p50"] <= rows[f"{what} p95"] <= rows[f"{what} p99"]
    assert rows["period error p99, page open"] > 0
    assert 0 <= rows["pictures never drawn"] < 100 and 0 <= rows["keys without answer"] < 4
