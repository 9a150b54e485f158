"""Pictures of a take on disk: as they were, or nearly, and encoded no more often than they came."""

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
from live_takes import NOTHING_RESERVED, TINY, frame

from vla.data import spool
from vla.data.live import LiveRecorder
from vla.data.publish import live_folder
from vla.data.spool import read_frames
from vla.spec import Camera


def test_large_pictures_come_back_nearly_as_they_were(tmp_path):
    spec = replace(TINY, cameras=(Camera("front", 480, 640), Camera("wrist", 480, 640)))
    smooth = np.indices((480, 640)).sum(0)[..., None] / 5 + np.array([0, 10, 30])
    picture = smooth.astype(np.uint8)
    with LiveRecorder(tmp_path / "data", spec, NOTHING_RESERVED) as recorder:
        recorder.begin("look")
        recorder.offer(replace(frame(0, spec=spec), images={"front": picture, "wrist": picture}))
        recorder.end(True)
        recorder.settle()
        (back,) = read_frames(live_folder(tmp_path / "data") / "take-000000", spec)
    assert np.abs(back.images["wrist"].astype(int) - picture).max() <= 6


def test_a_picture_that_several_steps_saw_is_encoded_once_and_stands_in_each(tmp_path, monkeypatch):
    spec = replace(TINY, cameras=(Camera("front", 480, 640),))
    pictures = [np.full((480, 640, 3), grey, np.uint8) for grey in (50, 200)]
    encode = Mock(side_effect=spool.encode_jpeg)
    monkeypatch.setattr(spool, "encode_jpeg", encode)
    with LiveRecorder(tmp_path / "data", spec, NOTHING_RESERVED) as recorder:
        recorder.begin("look")
        for step, which in enumerate([0, 0, 1, 1, 0]):
            recorder.offer(replace(frame(step, spec=spec), images={"front": pictures[which]}))
        recorder.end(True)
        recorder.settle()
        back = read_frames(live_folder(tmp_path / "data") / "take-000000", spec)
        assert [one.images["front"].mean() > 100 for one in back] == [False, False, True, True, False]
    assert encode.call_count == 3
