"""Which times of a video to look at, and the frames at given times."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from opticaldr.media.video_reader import Frame, VideoReader


def sample_times(path: Path, count: int) -> tuple[float, ...]:
    """The middles of `count` equal stretches of a video [s]; reads the header where it can.

    Rounded to milliseconds, so that the times can be written down and read back.
    """
    with VideoReader(path) as video:
        start, duration = video.start_s, video.duration_s
    if duration is None:  # a recording that was streamed: its length is where its packets end
        duration = _last_packet_s(path) - start
    return tuple(round(start + (i + 0.5) / count * duration, 3) for i in range(count))


def frames_at(path: Path, times: Iterable[float]) -> list[Frame]:
    """The frames nearest to ascending times [s]; seeks where the container has an index."""
    with VideoReader(path) as video:
        return video.nearest(times)


def read_frames(path: Path, count: int) -> list[Frame]:
    """`count` frames equally spaced in time over a video."""
    return frames_at(path, sample_times(path, count))


def _last_packet_s(path: Path) -> float:
    """Presentation time of the last packet [s], read without decoding."""
    with VideoReader(path) as video:
        stamps = (packet.pts for packet in video._container.demux(video._stream))
        last = max((pts for pts in stamps if pts is not None), default=0)
        return float(last * video.time_base)
