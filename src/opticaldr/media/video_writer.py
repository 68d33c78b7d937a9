"""Writing a silent H.264 video whose frames keep their timestamps."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from opticaldr.media.files import cannot_write, partial_path
from opticaldr.media.video_reader import EXACT_COLOUR
from opticaldr.types import InputError

ENCODER_OPTIONS = {
    "preset": "veryfast",
    "crf": "12",
    "bf": "0",
    "x264-params": "chromaloc=1:mbtree=0",
}
"""x264 settings. A 512 px talking head comes back 0.7 grey levels off on average (47 dB), half of
it from the halved colour resolution; at this rate factor (crf) slower presets gain nothing.
Without B frames (bf), frames are stored in the order of presentation and no time is shifted.
The colour conversion averages 2 x 2 pixels, so colour sits at their centre (chromaloc): tagged
otherwise, it comes back half a pixel to the side. The macroblock tree (mbtree) is off: with it
one in 60 encodings of the same 32 px frames came out different on a busy machine."""

BT709 = 1
"""Code point of BT.709 for matrix, primaries and transfer (ITU-T H.273, tables 2-4)."""
LIMITED_RANGE = 1
"""FFmpeg's AVCOL_RANGE_MPEG."""


class VideoWriter:
    """Writes (h, w, 3) uint8 sRGB frames to an MP4 file, each at the time it is given.

        with VideoWriter(path, time_base=video.time_base, rate=video.rate) as out:
            for frame in video:
                out.write(frame.image, frame.pts)

    The file appears under its name when the block ends well, and not at all otherwise. Times are
    kept exactly, whatever their spacing; a recording that starts before 0 s starts at 0 s, and a
    time that does not advance moves to the next tick. Colour is stored at half resolution
    (yuv420p, which every player shows); odd sides grow by one repeated row or column. Measure on
    images, not on video: any codec changes pixels.
    """

    def __init__(self, path: Path, *, time_base: Fraction, rate: Fraction | None = None) -> None:
        """Opens the file for writing.

        Args:
            path: the target; missing parent folders are made.
            time_base: unit of every pts [s].
            rate: average frames per second; guides the encoder's bit budget, not the times.

        Raises:
            InputError: the suffix is not .mp4 or the folder cannot be written.
        """
        if path.suffix.lower() != ".mp4":
            raise InputError(
                f"Expected a video name that ends in .mp4, found {path.name}; change the suffix."
            )
        self._path = path
        self._partial = partial_path(path)
        self._time_base = time_base
        self._rate = rate or Fraction(25)
        self._stream: av.VideoStream | None = None
        self._shape: tuple[int, ...] = ()
        self._offset = 0
        self._last_pts = -1
        ticks = str(time_base.denominator)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()
            self._container = av.open(
                f"file:{self._partial}",  # a bare name such as "a:b" would choose a protocol
                "w",
                format="mp4",
                # Both clocks tick as the input does: no time is rounded, the start included.
                options={"video_track_timescale": ticks, "movie_timescale": ticks},
            )
        except OSError as error:
            raise cannot_write(path, error.strerror) from None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            with suppress(av.FFmpegError, OSError):
                self._container.close()
            with suppress(OSError):
                self._partial.unlink()

    def write(self, image: np.ndarray, pts: int) -> None:
        """Adds one frame: (h, w, 3) uint8 sRGB shown from pts * time_base seconds on.

        Raises:
            InputError: the file cannot be written (disk full).
        """
        if self._stream is None:
            self._open_stream(image, pts)
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(
                f"Expected frames {self._shape} of uint8 for {self._path}, got {image.shape} "
                f"{image.dtype}."
            )
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(
            format="yuv420p",
            dst_colorspace=BT709,
            dst_color_range=LIMITED_RANGE,
            interpolation=EXACT_COLOUR,
        )
        self._last_pts = max(pts + self._offset, self._last_pts + 1)
        frame.pts = self._last_pts
        frame.time_base = self._time_base
        self._encode(frame)

    def _open_stream(self, image: np.ndarray, pts: int) -> None:
        """Sets the encoder up for frames like the first one."""
        height, width = image.shape[:2]
        stream = self._container.add_stream("libx264", rate=self._rate, options=ENCODER_OPTIONS)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = self._time_base
        context = stream.codec_context
        context.time_base = self._time_base
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        self._stream, self._shape, self._offset = stream, image.shape, max(0, -pts)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                # without one tick or more the file would end before its last frame
                packet.duration = max(1, round(1 / self._rate / self._time_base))
                self._container.mux(packet)
        except av.FFmpegError as error:
            raise cannot_write(self._path, error.strerror) from None

    def _finish(self) -> None:
        if self._stream is None:
            raise InputError(
                f"Expected at least one frame for {self._path}, found none; check the input video."
            )
        self._encode(None)
        try:
            self._container.close()
            os.replace(self._partial, self._path)
        except (av.FFmpegError, OSError) as error:
            raise cannot_write(self._path, error.strerror) from None
