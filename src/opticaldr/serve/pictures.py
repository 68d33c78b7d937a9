"""Small pictures of a point spread function and of a surface: arrays to PNG, without matplotlib."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, PngImagePlugin

STOPS = np.array(
    [[8, 10, 28], [46, 37, 112], [126, 45, 124], [206, 72, 88], [246, 147, 62], [252, 240, 178]]
)
"""Dark blue to pale yellow, ever lighter, so that it also reads in grey (sRGB)."""


def png(image: np.ndarray, note: str = "") -> bytes:
    """(h, w, 3 or 4) uint8 as PNG; note: a text chunk "Description"."""
    text = PngImagePlugin.PngInfo()
    if note:
        text.add_text("Description", note)
    encoded = io.BytesIO()
    # level 1: noise hardly compresses, and a live view has no time for more
    Image.fromarray(image).save(encoded, format="PNG", compress_level=1, pnginfo=text)
    return encoded.getvalue()


def coloured(values: np.ndarray) -> np.ndarray:
    """(h, w) values in [0, 1] as (h, w, 3) uint8 through STOPS."""
    place = np.linspace(0, 1, len(STOPS))
    channels = [np.interp(values, place, STOPS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def psf_picture(psf: np.ndarray, side: int) -> np.ndarray:
    """(3, m, m) PSF as (side, side, 3): mean of the colours, square root, brightest point = 1.

    One pixel is one sensor pixel, the axis is in the middle.
    """
    light = np.clip(psf.mean(axis=0), 0, None)
    extent = light.shape[0]
    if extent > side:
        cut = extent // 2 - side // 2
        light = light[cut : cut + side, cut : cut + side]
    else:
        before = side // 2 - extent // 2
        light = np.pad(light, (before, side - extent - before))
    return coloured(np.sqrt(light / max(float(light.max()), 1e-12)))


def surface_picture(height_m: np.ndarray) -> np.ndarray:
    """(n, n) heights [m], NaN outside the plate, as (n, n, 4): low dark, high light."""
    plate = np.isfinite(height_m)
    inside = height_m[plate]
    low, high = float(inside.min()), float(inside.max())
    level = np.where(plate, (height_m - low) / max(high - low, 1e-15), 0.0)
    return np.dstack([coloured(level), np.where(plate, 255, 0).astype(np.uint8)])
