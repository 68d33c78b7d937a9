"""Reading a video frame by frame, upright and with its timestamps, without holding it in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation

from opticaldr.media.files import shown
from opticaldr.media.image import MAX_PIXELS
from opticaldr.types import InputError

CONTAINERS = "mov,mp4,matroska,webm,avi,asf,mpeg,mpegts"
"""The only demuxers that user data reaches: playlist formats can name other files and addresses."""

INDEXED = ("mp4", "matroska", "avi")
"""Containers with an index of key frames, in which seeking is exact."""

EXACT_COLOUR = (
    Interpolation.BILINEAR
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
"""Colour conversion with rounding; the default truncates and darkens by one grey level."""

SEEK_AHEAD_S = 4.0
"""Frames further ahead than this are sought; nearer ones are reached by decoding on [s]."""

TIME_ROUNDING_S = 1e-6
"""Sums of time steps and ticks of a clock differ by less [s]."""

SHORTFALL_S = 0.5
"""A stream that ends this much earlier than its header says is damaged [s]; headers round."""


@dataclass(frozen=True)
class Frame:
    """One decoded video frame.

    image: (h, w, 3) uint8 sRGB, upright.
    pts: presentation time in ticks of time_base [s].
    number: place among the frames of the video that decode, from 0; None after a seek.
    """

    image: np.ndarray
    pts: int
    time_base: Fraction
    number: int | None = None

    @property
    def time_s(self) -> float:
        """Presentation time [s]."""
        return float(self.pts * self.time_base)


class VideoReader:
    """One pass over the frames of a video; sound is ignored.

        with VideoReader(Path("clip.mp4")) as video:
            for frame in video: ...
            if video.error: ...

    The rotation that phones store beside the pixels is applied (a mirror flag is not), and pixels
    are taken as square. Damage does not stop the pass: what can be decoded is yielded, and `error`
    then says in one sentence what was lost. Damage that a container skips without a word
    (Matroska) shows only as a gap between timestamps.

    Attributes:
        name: what error messages call the video.
        width, height: of the upright frames [px].
        rate: average frames per second, None if unknown.
        frames: number of frames that the header states, None if it states none.
        duration_s: length that the header states [s], None if it states none.
        start_s: time of the first frame [s].
        time_base: unit of every frame's pts [s].
        error: None, or what was damaged; complete after the last frame.

    Raises:
        InputError: no such file, zero bytes, not a video, sound only, no frame that decodes.
    """

    def __init__(
        self, source: Path | BinaryIO, *, name: str = "", max_pixels: int = MAX_PIXELS
    ) -> None:
        """Opens a file, or a binary stream that can seek (for videos that stay in memory).

        max_pixels: of a frame; a larger one is refused whenever it comes, for a stream may grow.
        """
        self.name = name or (shown(source) if isinstance(source, Path) else "the uploaded video")
        self.error: str | None = None
        self._damage_count = 0
        self._max_pixels = max_pixels
        self._container = _open(source, self.name)
        try:
            self._stream = self._choose_stream()
            # Decoder threads would not survive the fork of a data loader, which then hangs.
            self._stream.thread_count = 1
            self.time_base = Fraction(self._stream.time_base)
            self.rate = self._stream.average_rate
            self.frames = self._stream.frames or None
            stated = _stated_length(self._stream)
            total = self._container.duration
            self.duration_s = stated or (total / av.time_base if total else None)
            self._raw = self._decode()
            self._first = next(self._raw, None)
            if self._first is None:
                raise InputError(
                    f"Expected a video in {self.name}, found no frame that can be decoded; "
                    "copy the file again or convert it to MP4 (H.264)."
                )
        except BaseException:
            self._container.close()
            raise
        self.start_s = float(self._first.pts * self.time_base)
        self._stated_end_s = self.start_s + stated if stated else None
        sideways = self._first.rotation % 180 != 0
        size = (self._first.width, self._first.height)
        self.width, self.height = size[::-1] if sideways else size

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; reading is over."""
        self._raw.close()  # it refers to this object: closing it frees the decoder at once
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        """The frames in order of presentation; a second pass needs a new reader."""
        for number, frame in enumerate(self._pass()):
            yield self._upright(frame, number)

    def sampled(self, step_s: float) -> Iterator[Frame]:
        """The frames nearest to a grid of times step_s [s] apart from the first frame on.

        Uses up the one pass. No frame comes twice: where a gap of a variable frame rate swallows
        steps, or the frames lie further apart than the step, there are fewer.
        """
        if not step_s > 0:
            raise InputError(f"Expected a time step above 0 s, found {step_s}; such as 0.2.")
        due, given = 0, None  # the next step of the grid, and the frame that was yielded last
        before: tuple[int, av.VideoFrame] | None = None
        for after in enumerate(self._pass()):
            passed = self._time(after[1]) - self.start_s + TIME_ROUNDING_S
            reached = max(due - 1, int(passed // step_s))
            # of the steps between two frames the first is nearest to one, the last to the other
            for step in sorted({due, reached} if due <= reached else ()):
                target = self.start_s + step * step_s
                pair = (before, after) if before else (after,)
                number, frame = min(pair, key=lambda c, t=target: abs(self._time(c[1]) - t))
                if number != given:
                    given = number
                    yield self._upright(frame, number)
            due = reached + 1
            before = after

    def _pass(self) -> Iterator[av.VideoFrame]:
        """Every frame that decodes; then `error` is set."""
        last = self._first
        if last is not None:
            self._first = None
            yield last
        for frame in self._raw:
            last = frame
            yield frame
        self._check_end(last)

    def nearest(self, times: Iterable[float]) -> list[Frame]:
        """The frames nearest to the given ascending times [s]; uses up the one pass.

        Raises:
            InputError: the video ends well before one of the times.
        """
        chosen = []
        before = after = self._first
        for time in times:
            if self._indexed and time - self._time(after) > SEEK_AHEAD_S:
                self._container.seek(int(time / self.time_base), stream=self._stream)
                self._raw = self._decode()
                before = after = next(self._raw, after)
            while self._time(after) < time and (frame := next(self._raw, None)) is not None:
                before, after = after, frame
            if time - self._time(after) > SHORTFALL_S:
                raise InputError(
                    f"Expected a frame at {time:.2f} s in {self.name}, found none after "
                    f"{self._time(after):.2f} s; the file is damaged or the time is wrong."
                )
            near = min(before, after, key=lambda frame: abs(self._time(frame) - time))
            chosen.append(self._upright(near))
        return chosen

    @property
    def _indexed(self) -> bool:
        return any(kind in self._container.format.name for kind in INDEXED)

    def _time(self, frame: av.VideoFrame) -> float:
        return float(frame.pts * self.time_base)

    def _choose_stream(self) -> av.VideoStream:
        """The first stream of moving pictures; the cover of a music file is none."""
        for stream in self._container.streams.video:
            known = stream.codec_context is not None  # damaged headers may name no codec
            if known and not stream.disposition & Disposition.attached_pic:
                break
        else:
            found = "sound only" if self._container.streams.audio else "no video stream"
            raise InputError(f"Expected a video in {self.name}, found {found}; leave it out.")
        self._check_size(stream.width, stream.height)
        return stream

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise InputError(
                f"Expected frames of at most {self._max_pixels / 1e6:g} Mpx in {self.name}, found "
                f"{width} x {height} pixels; reduce the video first."
            )

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Every frame that decodes, with a timestamp; counts damage instead of raising."""
        step = round(1 / (self.rate or 25) / self.time_base)
        next_pts = 0
        try:
            for packet in self._container.demux(self._stream):
                self._damage_count += packet.is_corrupt
                try:
                    for frame in packet.decode():
                        self._check_size(frame.width, frame.height)
                        self._damage_count += frame.is_corrupt
                        if frame.pts is None:  # raw streams and some AVI files carry no times
                            frame.pts = next_pts
                        next_pts = frame.pts + step
                        yield frame
                except av.FFmpegError:
                    self._damage_count += 1
        except av.FFmpegError:
            self._damage_count += 1

    def _upright(self, frame: av.VideoFrame, number: int | None = None) -> Frame:
        turns = round(frame.rotation / 90)  # counterclockwise, as numpy counts
        image = frame.to_ndarray(format="rgb24", interpolation=EXACT_COLOUR, threads=1)
        upright = np.ascontiguousarray(np.rot90(image, turns))
        return Frame(upright, frame.pts, self.time_base, number)

    def _check_end(self, last: av.VideoFrame | None) -> None:
        """Sets `error` from what the pass met."""
        faults = []
        if self._damage_count:
            faults.append(f"damaged pieces that were skipped or patched: {self._damage_count}")
        if last is not None and self._stated_end_s is not None:
            shown = max(last.duration * self.time_base, 1 / (self.rate or 25))
            end = self._time(last) + float(shown)
            if self._stated_end_s - end > SHORTFALL_S:
                faults.append(f"it ends at {end:.2f} s instead of {self._stated_end_s:.2f} s")
        if faults:
            self.error = (
                f"Expected a whole video in {self.name}, found damage ({', '.join(faults)}); "
                "the frames that could be decoded were used."
            )


def _open(source: Path | BinaryIO, name: str) -> av.container.InputContainer:
    advice = "check the path" if isinstance(source, Path) else "send it again"
    try:
        if isinstance(source, Path):
            size = source.stat().st_size
            file = f"file:{source}"  # a bare name such as "concat:x" would choose a protocol
        else:
            size = source.seek(0, 2)
            source.seek(0)
            file = source
        if size == 0:
            raise InputError(
                f"Expected a video in {name}, found zero bytes; copy the file again or leave it "
                "out."
            )
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
        return av.open(file, metadata_errors="replace", container_options=options)
    except OSError as error:
        raise InputError(
            f"Expected a readable video at {name}, found '{error.strerror}'; {advice}."
        ) from None
    except av.FFmpegError:
        raise InputError(
            f"Expected a video in {name}, found data that are no video or whose index is cut off; "
            "copy the file again or convert it to MP4 (H.264)."
        ) from None


def _stated_length(stream: av.VideoStream) -> float | None:
    """Length of the video stream alone [s]: from its header, or Matroska's DURATION tag."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return (int(hours) * 60 + int(minutes)) * 60 + float(seconds) or None
    except ValueError:
        return None
