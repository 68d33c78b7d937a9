"""The yardstick: the exact angular spectrum in float64, sampled finely enough for any preset.

It shares the height polynomials with the engines and nothing else: no grid, no propagation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from opticaldr.optics.fabrication import height_of
from opticaldr.optics.imaging import box_sum
from opticaldr.optics.system import OpticalSystem

Axis = Literal["pixel", "sample"]
"""Where the optical axis lies: the middle of sensor pixel S/2, or of wavefront sample N/2."""

OVERSAMPLING = 2
"""Samples per wavefront sample: at -51 um a third of the pupil is past Nyquist of 3.69 um."""


@dataclass(frozen=True)
class Reference:
    """PSFs of the same light on the sensor pixels, (k, 3, S, S) float64 each.

    pixel, sample: sums of the intensity at the wavefront pitch, as every engine sums it, with the
    axis in the middle of sensor pixel S/2 or on wavefront sample N/2. area: integral of the
    intensity over the pixels, axis as in `pixel`; intensity varies twice as fast as the field, so
    a sum at the wavefront pitch differs from it by up to 1e-2 near focus.
    """

    pixel: Float[Tensor, "k 3 S S"]
    sample: Float[Tensor, "k 3 S S"]
    area: Float[Tensor, "k 3 S S"]


def reference_psfs(
    coefficients_um: Float[Tensor, "terms"], depths_m: Float[Tensor, "k"], system: OpticalSystem
) -> Reference:
    """PSFs in float64; each sums to the share of the light that reaches the sensor.

    U = P_z { A exp(i k [(n-1) h + sqrt(r^2 + d^2)]) }, H = exp(i k z (sqrt(1 - (wl f)^2) - 1)),
    a quarter of the grid of zeros on each side. The field, which is band-limited, is evaluated at
    shifted positions by the factor exp(2 pi i f shift), so that the axis lies where it should.
    """
    size = OVERSAMPLING * system.grid
    padding = size // 4
    pitch = system.pitch_m / OVERSAMPLING
    line = (torch.arange(size, dtype=torch.float64) - size // 2) * pitch
    y, x = torch.meshgrid(line, line, indexing="ij")
    r2 = x**2 + y**2
    amplitude = ((system.aperture_radius_m - r2.sqrt()) / pitch + 0.5).clamp(0.0, 1.0)  # grey edge
    height = height_of(coefficients_um, system)(x, y)
    f = torch.fft.fftfreq(size + 2 * padding, pitch, dtype=torch.float64)
    f2 = f[:, None] ** 2 + f[None, :] ** 2
    centre = slice(padding, padding + size)
    # first sample of pixel S/2, relative to the axis, and the stride from sample to sample
    sensor, wavefront = system.sensor_pitch_m, system.pitch_m
    plans = {
        "pixel": ((wavefront - sensor) / 2, OVERSAMPLING),
        "sample": (0.0, OVERSAMPLING),
        "area": ((pitch - sensor) / 2, 1),
    }
    psfs: dict[str, list[Tensor]] = {name: [] for name in plans}
    for depth in depths_m.double().tolist():
        source = r2 / ((r2 + depth**2).sqrt() + depth)
        for wavelength, index in zip(system.wavelengths_m, system.indices, strict=True):
            k = 2 * math.pi / wavelength
            field = torch.polar(amplitude, k * ((index - 1) * height + source))
            path = -(wavelength**2) * f2 / ((1 - wavelength**2 * f2).sqrt() + 1)
            spectrum = torch.fft.fft2(torch.nn.functional.pad(field, (padding,) * 4))
            spectrum *= torch.polar(torch.ones_like(f2), k * system.sensor_distance_m * path)
            for name, (shift, stride) in plans.items():
                moved = torch.polar(torch.ones_like(f), 2 * math.pi * f * shift)
                at_sensor = torch.fft.ifft2(spectrum * moved[:, None] * moved)[centre, centre]
                light = at_sensor[::stride, ::stride].abs().square() * stride**2
                q = light.shape[-1] // system.sensor_pixels
                psfs[name].append(box_sum(light[None], q) / amplitude.square().sum())
    shape = (len(depths_m), 3)
    return Reference(**{name: torch.cat(parts).unflatten(0, shape) for name, parts in psfs.items()})


def misplaced(psf: Tensor, reference: Tensor) -> float:
    """Total variation: share of the light in the wrong place, worst depth and colour.

    psf: (k, 3, m, m), m even, axis in pixel m/2. reference: (k, 3, S, S). Both are cut to the
    smaller of the two squares around the axis and divided by the light in it.
    """
    side = min(psf.shape[-1], reference.shape[-1])
    cut = [_centre(p.double().cpu(), side) for p in (psf.detach(), reference)]
    a, b = (p / p.sum((-2, -1), keepdim=True) for p in cut)
    return float((0.5 * (a - b).abs().sum((-2, -1))).max())


def _centre(psf: Tensor, side: int) -> Tensor:
    start = psf.shape[-1] // 2 - side // 2
    return psf[..., start : start + side, start : start + side]
