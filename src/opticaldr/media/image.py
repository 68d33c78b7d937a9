"""Reading, cropping and writing one photograph as (h, w, 3) uint8 sRGB."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from opticaldr.media.files import shown, written_whole
from opticaldr.types import InputError

MAX_PIXELS = 64_000_000
"""Larger images are refused before they are decoded: a few kilobytes can unpack to gigabytes."""

READ_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""The only decoders that user data reaches (Pillow has more, and some start other programs)."""

WRITE_FORMATS = {
    "": "PNG",
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
LOSSY_OPTIONS = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}

# What Pillow's decoders raise on damaged data, found by truncating and corrupting files.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, KeyError, IndexError, TypeError)


def decode_image(data: bytes, name: str) -> np.ndarray:
    """The image in an encoded file, upright, as (h, w, 3) uint8 sRGB.

    EXIF orientation is applied, transparency is flattened on black, 16-bit and greyscale images
    become 8-bit RGB, and the first image of an animation is taken. An ICC profile is ignored:
    values are taken as sRGB.

    Args:
        data: the bytes of a JPEG, PNG, WebP, BMP or TIFF file.
        name: what an error message calls the image.

    Raises:
        InputError: the data are empty, no image, damaged, truncated, above 64 Mpx or 32-bit.
    """
    if not data:
        raise InputError(
            f"Expected an image in {name}, found zero bytes; copy the file again or leave it out."
        )
    try:
        image = Image.open(io.BytesIO(data), formats=READ_FORMATS)
    except UnidentifiedImageError:
        raise InputError(
            f"Expected an image in {name}, found data that are none of "
            f"{', '.join(READ_FORMATS)}; convert the file or leave it out."
        ) from None
    except Image.DecompressionBombError:
        raise _too_large(name, "far more") from None
    except DAMAGE as error:
        raise _damaged(name, error) from None
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(name, f"{image.width} x {image.height}")
    if image.mode in ("I", "F"):
        raise InputError(
            f"Expected 8 or 16 bits a channel in {name}, found 32-bit values whose range is "
            "unknown; convert the image."
        )
    try:
        return _to_rgb(ImageOps.exif_transpose(image))
    except DAMAGE as error:
        raise _damaged(name, error) from None


def read_image(path: Path) -> np.ndarray:
    """The image in a file, upright, as (h, w, 3) uint8 sRGB (see decode_image)."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"Expected a readable image at {shown(path)}, found '{error.strerror}'; check the path."
        ) from None
    return decode_image(data, shown(path))


def write_image(path: Path, array: np.ndarray) -> None:
    """Writes (h, w, 3) or (h, w) uint8 sRGB; the suffix names the format, without one it is PNG.

    Readers see the old file or the new one, never half of one. JPEG is lossy (quality 95, no
    chroma subsampling); the other formats keep every value.

    Raises:
        InputError: unknown suffix, or the file cannot be written (disk full, no permission).
    """
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise ValueError(
            f"Expected an image (h, w, 3) or (h, w) of uint8, got {array.shape} {array.dtype}."
        )
    kind = WRITE_FORMATS.get(path.suffix.lower())
    if kind is None:
        raise InputError(
            f"Expected an image suffix in {path.name}, found '{path.suffix}'; "
            f"use one of {', '.join(filter(None, WRITE_FORMATS))}."
        )
    encoded = io.BytesIO()
    Image.fromarray(array).save(encoded, format=kind, **LOSSY_OPTIONS.get(kind, {}))
    with written_whole(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())


def square_crop(array: np.ndarray, size: int) -> np.ndarray:
    """The centre square of an image, resized to (size, size, 3) without aliasing.

    Pillow's Lanczos filter widens its support with the reduction, so detail above the new Nyquist
    frequency is removed rather than folded. Resizing works on sRGB values, as face data sets do.

    Args:
        array: (h, w, 3) uint8 sRGB.
        size: side of the result [px].
    """
    height, width = array.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = array[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(square)
    resized = Image.fromarray(np.ascontiguousarray(square)).resize(
        (size, size), Image.Resampling.LANCZOS
    )
    return np.array(resized)


def _to_rgb(image: Image.Image) -> np.ndarray:
    """(h, w, 3) uint8 from any Pillow mode."""
    if image.mode.startswith("I;16"):
        grey = np.asarray(image, dtype=np.uint32)
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, layer)
    return np.array(image.convert("RGB"))


def _damaged(name: str, error: Exception) -> InputError:
    return InputError(
        f"Expected a whole image in {name}, found damaged or truncated data ({error}); "
        "copy the file again or leave it out."
    )


def _too_large(name: str, found: str) -> InputError:
    return InputError(
        f"Expected an image of at most {MAX_PIXELS // 10**6} Mpx in {name}, found {found} "
        "pixels; reduce it first."
    )
