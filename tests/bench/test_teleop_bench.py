"""Times depend on the machine; what is driven, recorded and counted does not."""

import numpy as np
import pytest

from vla.bench import teleop
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


def test_both_drive_the_arm_and_record_it(monkeypatch):
    monkeypatch.setattr(teleop, "HEIGHT", 48)
    monkeypatch.setattr(teleop, "WIDTH", 64)
    document = teleop.bench_teleop(3.0)
    assert [row["name"] for row in document["rows"]] == [
        *("period error p50", "period error p99", "largest gap"),
        *("camera frames lost", "steps dropped", "pictures waiting at the end"),
    ]
    assert all(row["peer"] == teleop.PEER for row in document["rows"])
    assert document["steps"] > 2 and document["peer_steps"] > 2
