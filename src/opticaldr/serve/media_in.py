"""Pictures and videos from strangers: kind by magic bytes, limits from the header, then decode."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from opticaldr.media import VideoReader, decode_image
from opticaldr.media.image import DAMAGE
from opticaldr.serve.errors import ServiceError
from opticaldr.serve.limits import Limits
from opticaldr.serve.uploads import Upload
from opticaldr.types import InputError

Fits = Callable[[bytes], bool]
"""Whether the first 16 bytes are those of a format."""

PICTURES: dict[str, Fits] = {
    "JPEG": lambda head: head[:3] == b"\xff\xd8\xff",
    "PNG": lambda head: head[:8] == b"\x89PNG\r\n\x1a\n",
    "WEBP": lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
    "BMP": lambda head: head[:2] == b"BM",
}
VIDEOS: dict[str, Fits] = {
    "MP4 or MOV": lambda head: head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"),
    "WebM or MKV": lambda head: head[:4] == b"\x1a\x45\xdf\xa3",
    "AVI": lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ",
}
"""Containers only: a playlist would make the decoder open other files and addresses."""


def check_picture(upload: Upload, limits: Limits) -> None:
    """Looks at magic bytes and header, decodes nothing.

    Raises:
        ServiceError: 415 if it is no JPEG, PNG, WebP or BMP; 413 if its header states more than
            limits.image_pixels.
    """
    kind = next((name for name, fits in PICTURES.items() if fits(upload.data[:16])), None)
    if kind is None:
        raise _unknown("picture", upload, PICTURES)
    try:
        with Image.open(io.BytesIO(upload.data), formats=(kind,)) as header:
            width, height = header.size
    except Image.DecompressionBombError:
        raise _too_many_pixels("far more", limits.image_pixels) from None
    except DAMAGE:
        raise ServiceError(
            415, "not_a_picture", "Expected a whole picture, found a damaged one; send it again."
        ) from None
    if width * height > limits.image_pixels:
        raise _too_many_pixels(f"{width} x {height}", limits.image_pixels)


def picture(upload: Upload, limits: Limits) -> np.ndarray:
    """The picture as (h, w, 3) uint8 sRGB; ServiceError as check_picture, and 415 if damaged."""
    check_picture(upload, limits)
    try:
        return decode_image(upload.data, upload.name)
    except InputError as error:
        raise ServiceError(415, "not_a_picture", str(error)) from None


def check_video(upload: Upload, limits: Limits) -> int | None:
    """The number of frames that the header states, None if it states none.

    Raises:
        ServiceError: 415 if it is no MP4, MOV, WebM, MKV or AVI with a frame that decodes; 413 if
            its header states more pixels, frames or seconds than the limits.
    """
    if not any(fits(upload.data[:16]) for fits in VIDEOS.values()):
        raise _unknown("video", upload, VIDEOS)
    try:
        with VideoReader(io.BytesIO(upload.data), name=upload.name) as video:
            size, frames, seconds = (video.width, video.height), video.frames, video.duration_s
    except InputError as error:
        raise ServiceError(415, "not_a_video", str(error)) from None
    if size[0] * size[1] > limits.video_pixels:
        raise _too_many_pixels(f"{size[0]} x {size[1]}", limits.video_pixels)
    check_length(frames or 0, seconds or 0.0, limits)
    return frames


def check_length(frames: int, seconds: float, limits: Limits) -> None:
    """ServiceError 413 if a video is longer than the limits: stated, or read so far."""
    if frames > limits.video_frames or seconds > limits.video_seconds:
        raise ServiceError(
            413,
            "too_long",
            f"Expected at most {limits.video_frames} frames and {limits.video_seconds:g} s, found "
            f"{frames} frames and {seconds:.0f} s; cut the video.",
        )


def _unknown(what: str, upload: Upload, kinds: dict[str, Fits]) -> ServiceError:
    found = "something else" if upload.data else "zero bytes"
    return ServiceError(
        415,
        f"not_a_{what}",
        f"Expected a {what} ({', '.join(kinds)}), found {found}; convert it.",
    )


def _too_many_pixels(found: str, most: int) -> ServiceError:
    return ServiceError(
        413,
        "too_many_pixels",
        f"Expected at most {most / 1e6:.1f} megapixels, found {found} pixels; reduce it first.",
    )
