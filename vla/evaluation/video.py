"""H.264 video that any browser and phone plays."""

import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: float) -> None:
    """Encode RGB frames (H, W, 3), H and W even, as mp4 (yuv420p, index first), whole or not at all."""
    partial = _partial(path)
    try:
        with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = None
            for frame in frames:
                if stream is None:
                    rate = Fraction(fps).limit_denominator(1001)
                    stream = container.add_stream("libx264", rate=rate, options={"crf": "21", "preset": "veryfast"})
                    stream.height, stream.width = frame.shape[:2]
                    stream.pix_fmt = "yuv420p"
                    stream.codec_context.thread_count = 1
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
            if stream is None:
                raise ValueError("a video needs at least one frame")
            container.mux(stream.encode())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def join_videos(path: Path, parts: Sequence[Path]) -> None:
    """One mp4 of several that `write_video` made at the same size and rate, without encoding again."""
    partial = _partial(path)
    try:
        with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as out:
            stream = None
            offset = 0
            for part in parts:
                with av.open(str(part)) as source:
                    video = source.streams.video[0]
                    if stream is None:
                        stream = out.add_stream_from_template(video)
                    assert video.average_rate and video.time_base
                    frames = 0
                    frame = round(1 / (video.average_rate * video.time_base))
                    for packet in source.demux(video):
                        if packet.dts is None or packet.pts is None:  # the empty packet that ends a stream
                            continue
                        packet.pts += offset
                        packet.dts += offset
                        packet.stream = stream
                        out.mux(packet)
                        frames += 1
                    offset += frames * frame
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.partial")
