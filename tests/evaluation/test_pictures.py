import av
import numpy as np
import pytest

from vla.evaluation.overlay import GAP, PANEL, SIZE, Caption, compose, contact_sheet
from vla.evaluation.video import join_videos, write_video
from vla.s2.places import plain_words

GREY = np.full((96, 96, 3), 128, np.uint8)


def frames(count: int, value: int = 0):
    return (np.full((64, 96, 3), (value + 10 * i) % 256, np.uint8) for i in range(count))


def decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        shown = [
            (float(frame.pts * stream.time_base), frame.to_ndarray(format="rgb24"))
            for frame in container.decode(stream)
        ]
        return stream.codec_context, shown


def test_a_video_is_h264_that_phones_play(tmp_path):
    write_video(tmp_path / "a.mp4", frames(7), fps=20)
    codec, shown = decode(tmp_path / "a.mp4")
    assert (codec.name, codec.pix_fmt, codec.width, codec.height) == ("h264", "yuv420p", 96, 64)
    assert [time for time, _ in shown] == pytest.approx([i / 20 for i in range(7)])
    raw = (tmp_path / "a.mp4").read_bytes()
    assert raw.index(b"moov") < raw.index(b"mdat")


def test_joined_videos_play_one_after_the_other(tmp_path):
    write_video(tmp_path / "a.mp4", frames(5), fps=20)
    write_video(tmp_path / "b.mp4", frames(4, value=200), fps=20)
    join_videos(tmp_path / "c.mp4", [tmp_path / "a.mp4", tmp_path / "b.mp4"])
    _, shown = decode(tmp_path / "c.mp4")
    assert [time for time, _ in shown] == pytest.approx([i / 20 for i in range(9)])
    assert shown[0][1].mean() < 20 and shown[5][1].mean() > 190


def test_a_video_that_fails_half_way_leaves_nothing(tmp_path):
    def broken():
        yield from frames(3)
        raise RuntimeError("renderer gone")

    with pytest.raises(RuntimeError):
        write_video(tmp_path / "a.mp4", broken(), fps=20)
    assert list(tmp_path.iterdir()) == []


def test_the_mark_is_drawn_where_s2_points():
    caption = Caption("lift the red cube", "the red cube <loc16><loc48>", 0.3, 1.0)
    marked, plain = (
        compose(GREY, GREY, Caption(**{**vars(caption), "words": w})) for w in (caption.words, "the red cube")
    )
    rows, columns = np.nonzero((marked != plain).any(axis=-1))
    assert (columns.mean() - GAP) / PANEL == pytest.approx(16.5 / 64, abs=0.01)
    assert (rows.mean() - GAP) / PANEL == pytest.approx(48.5 / 64, abs=0.01)


def test_the_age_bar_grows_with_age():
    def lit(age: float | None) -> int:
        frame = compose(GREY, GREY, Caption("x", None, age, 0.0)).astype(int)
        bar = frame[PANEL + 2 * GAP + 68, -GAP - 190 : -GAP]
        return int((np.abs(bar - (48, 53, 61)).sum(axis=-1) > 60).sum())

    assert lit(None) == 0 < lit(0.5) < lit(1.5) < lit(9.0) <= 190


def test_frames_have_one_even_size_whatever_is_written():
    long = "place the yellow cylinder into the yellow tray " * 9
    frame = compose(GREY, np.zeros((384, 384, 3), np.uint8), Caption(long, long, None, 0.0, "holding"))
    assert frame.shape == (SIZE[1], SIZE[0], 3)
    assert SIZE[0] % 2 == SIZE[1] % 2 == 0


def test_a_contact_sheet_has_a_column_per_moment():
    assert contact_sheet([(GREY, GREY, 0.1 * i) for i in range(3)], None, side=100).shape == (204, 308, 3)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("the red cube <loc12><loc40>", "the red cube"),
        ("<loc01><loc02> a ball <loc03> here", "a ball here"),
        ("at <loc01><loc02> at <loc03><loc04> two", "two"),
        ("a red cube at <loc01><loc02>, a ball at <loc03><loc04>", "a red cube, a ball"),
        (None, ""),
    ],
)
def test_people_read_words_without_place_tokens(words, shown):
    assert plain_words(words) == shown
