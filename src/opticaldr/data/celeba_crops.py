"""CelebA's pictures cut to the five-point template that every face in this package is cut to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from opticaldr.data.aligned_video import cut
from opticaldr.data.celeba_files import Files, stem
from opticaldr.faces.alignment import FIVE_POINTS, REFERENCE_SIDE
from opticaldr.media import decode_image, shown, square_crop
from opticaldr.types import FaceRecord


@dataclass(frozen=True)
class CropReader:
    """Reads and crops a picture; a class, so that data loader processes can receive it.

    points: (n, 10) [px of the picture], row[stem] names the row; a picture without points is cut
    to its centre square. size: side of the crop [px].
    """

    files: Files
    size: int
    points: np.ndarray
    row: dict[str, int]

    def __call__(self, record: FaceRecord) -> np.ndarray:
        """(size, size, 3) uint8 sRGB."""
        image = decode_image(self.files.read(record.key), shown(record.key))
        number = self.row.get(stem(record.key))
        if number is None:
            return square_crop(image, self.size)
        return cut(image, self.points[number], self.size)


def in_crop(points: np.ndarray) -> np.ndarray:
    """Where five points (n, 10) [px] lie in the crop that data.aligned_video.cut makes of them.

    Returns:
        (n, 10) fractions of the crop's side. The same least squares as faces.fit_similarity, of
        all pictures at once and inverted: w = a z + b with z on the template.
    """
    z = (FIVE_POINTS + 0.5) @ (1, 1j) / REFERENCE_SIDE
    w = points.reshape(-1, 5, 2).astype(float) @ (1, 1j) + (0.5 + 0.5j)
    centred = z - z.mean()
    a = (w - w.mean(1, keepdims=True)) @ centred.conj() / (centred @ centred.conj()).real
    b = w.mean(1) - a * z.mean()
    inside = (w - b[:, None]) / a[:, None]
    return np.stack([inside.real, inside.imag], axis=2).reshape(-1, 10)
