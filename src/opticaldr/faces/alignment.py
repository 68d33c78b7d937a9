"""The five-point template, and from the aligned crop to a recogniser's own chip.

Every face in this package is cropped to the ArcFace five-point template scaled by 0.72 about the
crop's centre. A lens does not move the face, so an attacker who knows where the face was needs no
landmarks: one constant, differentiable map per recogniser cuts its chip from any such crop, sharp
or blurred.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from opticaldr.types import InputError, Photo

REFERENCE_SIDE = 160
"""Side of the crop in whose pixels the constants below are given [px]."""

FIVE_POINTS = np.array(
    [
        *[(61.7887, 75.5734), (98.0328, 75.3729), (80.0259, 96.1862)],
        *[(65.1364, 117.4045), (95.1508, 117.2385)],
    ]
)
"""(5, 2) x, y of eyes, nose tip and mouth corners (image left first) in the crop; whole numbers are
pixel centres. ArcFace's template for 112 px (Deng et al., CVPR 2019), scaled by 0.72 x 160/112."""
FIVE_POINTS.flags.writeable = False


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The turn, scale and shift that bring points nearest to others, in least squares.

    Written with complex numbers: target = a source + b.

    Args:
        source, target: (n, 2) x, y of the same n >= 2 points; the source points differ.

    Returns:
        (2, 3): [x', y'] = matrix @ [x, y, 1].
    """
    z, w = (points @ (1, 1j) for points in (source, target))
    centred = z - z.mean()
    a = (centred.conj() @ (w - w.mean())) / (centred.conj() @ centred).real
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


@dataclass(frozen=True)
class ChipTemplate:
    """Similarity from the 160 px crop to a chip, in coordinates where pixel centres are whole:

    x' = cosine x - sine y + shift_x,  y' = sine x + cosine y + shift_y.
    """

    size: int
    cosine: float
    sine: float
    shift_x: float
    shift_y: float

    @property
    def scale(self) -> float:
        """Chip pixels per pixel of the 160 px crop."""
        return (self.cosine**2 + self.sine**2) ** 0.5

    def sampling_matrix(self) -> Tensor:
        """(1, 2, 3): chip coordinates to crop coordinates, both -1 .. 1 from edge to edge."""
        inverse = torch.tensor(
            [[self.cosine, self.sine], [-self.sine, self.cosine]], dtype=torch.float64
        )
        inverse = inverse / self.scale**2
        centre = torch.full((2,), (self.size - 1) / 2, dtype=torch.float64)
        shift = torch.tensor([self.shift_x, self.shift_y], dtype=torch.float64)
        crop_centre = inverse @ (centre - shift)
        offset = 2 * (crop_centre + 0.5) / REFERENCE_SIDE - 1
        linear = inverse * self.size / REFERENCE_SIDE
        return torch.cat([linear, offset[:, None]], dim=1).float()[None]


TEMPLATES = {
    # The ArcFace template at 112 px, undone from its 0.72 x 160/112 scaling: exact.
    "arcface112": ChipTemplate(112, 35 / 36, 0.0, -196 / 9, -196 / 9),
    # Fitted to the mean of dlib's own chips (150 px, padding 0.25) over LFW.
    "dlib150": ChipTemplate(150, 1.42763, 0.00703, -39.547, -62.566),
}


def cut_chip(photos: Photo, template: str, *, size: int | None = None) -> Tensor:
    """Cuts a recogniser's chip from aligned crops of any size.

    Bilinear with replicated borders; a crop much finer than the chip is first reduced with an
    antialiasing filter. Gradients reach the crop.

    Args:
        photos: (b, 3, h, h) aligned square crops, any value range.
        template: a key of TEMPLATES.
        size: side of the chip [px]; the template's own by default, otherwise the same area of the
            face at another resolution.

    Returns:
        (b, 3, size, size) chips in the value range of `photos`.
    """
    height, width = photos.shape[-2:]
    if height != width:
        raise InputError(
            f"Expected square aligned face crops, found {width}x{height} pixels; crop each face "
            "to the five-point template first."
        )
    chosen = TEMPLATES[template]
    size = size or chosen.size
    step = height / REFERENCE_SIDE / chosen.scale * chosen.size / size  # crop px per chip px
    if step > 1.25:
        side = max(1, round(height / step))
        photos = F.interpolate(
            photos, size=(side, side), mode="bilinear", align_corners=False, antialias=True
        )
    matrix = chosen.sampling_matrix().to(photos).expand(len(photos), 2, 3)
    grid = F.affine_grid(matrix, [len(photos), 3, size, size], align_corners=False)
    return F.grid_sample(photos, grid, mode="bilinear", padding_mode="border", align_corners=False)
