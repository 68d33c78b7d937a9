"""Rendered people on film: videos whose faces, places and times are known."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import count
from pathlib import Path

import av
import numpy as np
from scipy import ndimage

from opticaldr.faces.alignment import FIVE_POINTS, REFERENCE_SIDE
from opticaldr.faces.detection import Box, Detection
from opticaldr.media import VideoWriter


def on_canvas(
    *faces: tuple[np.ndarray, int, int], size: tuple[int, int] = (240, 320)
) -> np.ndarray:
    """(h, w, 3) uint8: faces pasted with their corner at (left, top) on a smooth background."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    canvas = np.stack([90 + x // 8, 100 + y // 8, np.full_like(x, 110)], axis=-1).astype(np.uint8)
    for face, left, top in faces:
        canvas[top : top + len(face), left : left + len(face)] = face
    return canvas


def write_film(
    path: Path,
    images: Iterable[np.ndarray],
    *,
    pts: Iterable[int] | None = None,
    time_base: Fraction = Fraction(1, 30),
) -> Path:
    """A video by the package's own writer; one tick a frame unless pts are given."""
    with VideoWriter(path, time_base=time_base) as out:
        for image, tick in zip(images, pts or count(), strict=False):
            out.write(image, tick)
    return path


def write_sound(path: Path) -> Path:
    """A file with sound only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = np.zeros((1, 16000), np.float32)
        sound = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return path


class RedSquares:
    """A detector for tests: every pure red square is a face whose crop it is.

    looks: how many images were searched. Its points are FIVE_POINTS, the crop being the box.
    """

    name = "red squares"

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self, image: np.ndarray) -> list[Detection]:
        self.looks += 1
        red = (image[..., 0] > 180) & (image[..., 1] < 90) & (image[..., 2] < 90)
        numbered, several = ndimage.label(red)
        found = []
        for rows, columns in ndimage.find_objects(numbered):
            box = (columns.start, rows.start, columns.stop, rows.stop)
            if rows.stop - rows.start > 8:  # a codec leaves specks
                found.append(Detection(box, float(several), self.points_in(image, box)))
        return found

    def points_in(self, image: np.ndarray, box: Box) -> np.ndarray:
        left, top, right, bottom = box
        scale = np.array([right - left, bottom - top]) / REFERENCE_SIDE
        return (FIVE_POINTS + 0.5) * scale + (left, top) - 0.5


def red(side: int = 40) -> np.ndarray:
    """What RedSquares takes for a face."""
    return np.full((side, side, 3), (230, 20, 20), np.uint8)
