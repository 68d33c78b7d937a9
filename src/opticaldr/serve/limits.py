"""What the service takes on: every size, length and count in one place, each with its reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass

MEBI = 2**20


@dataclass(frozen=True)
class Limits:
    """Checked before decoding where a header tells, and while data arrive where none does.

    image_bytes: a JPEG of a 25-megapixel camera has 8 to 12 MiB.
    image_pixels: 25 megapixels unpack to 75 MiB; telephones send 12.
    video_bytes: five minutes at 3 Mbit/s, which is 720p, have 110 MiB.
    video_pixels: a frame of 4K television (3840 x 2160).
    video_seconds, video_frames: five minutes at 30 frames/s; two cores then work for minutes.
    jobs: videos that run or wait, one at a time runs; their bytes stay in memory until they end.
    waiting: pictures that are worked on or wait; each holds up to image_bytes.
    held_bytes: uploads that are arriving or waiting, all together.
    upload_seconds: a client that sends more slowly than this is let go.
    kept_results, kept_seconds: results of videos that nobody has fetched or deleted.
    threads: pictures that are worked on at once; each computes on one core.
    """

    image_bytes: int = 16 * MEBI
    image_pixels: int = 25_000_000
    video_bytes: int = 128 * MEBI
    video_pixels: int = 3840 * 2160
    video_seconds: float = 300.0
    video_frames: int = 9000
    jobs: int = 4
    waiting: int = 64
    held_bytes: int = 256 * MEBI
    upload_seconds: float = 120.0
    kept_results: int = 32
    kept_seconds: float = 600.0
    threads: int = 2

    def to_json(self) -> dict[str, int | float]:
        return asdict(self)
