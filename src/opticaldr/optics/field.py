"""The blur over the field: a face fills degrees, a point spread function on the axis is one point.

How much the axis says about the corner, and a picture with a blur that changes across it:

    >>> import torch
    >>> from opticaldr.camera import load_camera
    >>> from opticaldr.optics.field import along_diagonal, convolve_field, psf_field
    >>> from opticaldr.optics.off_axis import Sag
    >>> lens = load_camera("focused", sensor_pixels=64).lens
    >>> sag, depths = Sag.of(lens.coefficients, lens.system), torch.tensor([1.0])
    >>> angles, psfs = along_diagonal(sag, depths, lens.system)
    >>> share = 0.5 * (psfs[-1] - psfs[0]).abs().sum((-2, -1))
    >>> f"{angles[-1].rad2deg():.1f} degrees: {share.max():.0%} of the light lands elsewhere"
    '4.3 degrees: 21% of the light lands elsewhere'
    >>> scene, which = torch.rand(2, 3, 64, 64), torch.tensor([0, 0])
    >>> convolve_field(scene, psf_field(sag, depths, lens.system, points=3), which).shape
    torch.Size([2, 3, 64, 64])

Layers that hide one another (a face before a wall) are not modelled: a scene is flat.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from opticaldr.optics.imaging import convolve
from opticaldr.optics.off_axis import Sag, psf_off_axis, widen
from opticaldr.optics.system import OpticalSystem
from opticaldr.types import InputError, Irradiance, Psf, Scene


def _angle(share: float, system: OpticalSystem) -> float:
    """Field angle [rad] of a point at this share of the way from the axis to the sensor's edge."""
    half = system.sensor_pixels * system.sensor_pitch_m / 2
    return math.atan(share * half / system.sensor_distance_m)


def _steps(points: int) -> list[float]:
    """`points` even steps from 0 to 1."""
    if points < 2:
        raise InputError(
            f"Expected at least 2 points of the field, found {points}; give 3 for axis, half and edge."
        )
    return [i / (points - 1) for i in range(points)]


def _stack(psfs: list[Psf]) -> Float[Tensor, "f k 3 m m"]:
    """PSFs with zeros around them up to the size of the widest."""
    widest = max(psf.shape[-1] for psf in psfs)
    return torch.stack([widen(psf, widest) for psf in psfs])


@torch.no_grad()
def along_diagonal(
    sag: Sag, depths_m: Float[Tensor, "k"], system: OpticalSystem, *, points: int = 3
) -> tuple[Float[Tensor, "f"], Float[Tensor, "f k 3 m m"]]:
    """PSFs from the axis to the corner of the sensor, each about its own image point.

    Returns: angle between chief ray and axis [rad] and the PSFs, of `points` even steps.
    """
    angles = [_angle(share, system) for share in _steps(points)]
    psfs = [psf_off_axis(sag, depths_m, system, field_rad=(angle, angle)) for angle in angles]
    slopes = [math.sqrt(2) * math.tan(angle) for angle in angles]
    return torch.tensor(slopes).atan(), _stack(psfs)


def field_grid(system: OpticalSystem, points: int) -> list[list[tuple[float, float]]]:
    """Field angles (x, y) [rad] of a points x points grid from edge to edge of the sensor."""
    along = [_angle(2 * share - 1, system) for share in _steps(points)]
    return [[(x, y) for x in along] for y in along]


@torch.no_grad()
def psf_field(
    sag: Sag, depths_m: Float[Tensor, "k"], system: OpticalSystem, *, points: int = 3
) -> Float[Tensor, "g g k 3 m m"]:
    """PSFs on field_grid(system, points)."""
    angles = [angle for row in field_grid(system, points) for angle in row]
    psfs = _stack([psf_off_axis(sag, depths_m, system, field_rad=angle) for angle in angles])
    return psfs.unflatten(0, (points, points))


def convolve_field(scene: Scene, psfs: Float[Tensor, "g g k 3 m m"], which: Tensor) -> Irradiance:
    """Blur that changes smoothly over the field: y = sum_g psf_g * (w_g scene).

    w_g are bilinear weights on the scene that sum to 1 everywhere, so every point of the scene is
    spread by a mixture of the four PSFs around it. which: (b,) the depth of each image.
    """
    points, size = psfs.shape[0], scene.shape[-1]
    position = torch.arange(size, dtype=scene.dtype, device=scene.device) / (size - 1)
    node = torch.arange(points, dtype=scene.dtype, device=scene.device)
    hat = (1 - (position * (points - 1) - node[:, None]).abs()).clamp_min(0)  # (g, s)
    image = torch.zeros_like(scene)
    for row in range(points):
        for column in range(points):
            weight = hat[row][:, None] * hat[column]
            image += convolve(scene * weight, psfs[row, column], which)
    return image
