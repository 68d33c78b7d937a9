"""What a point spread function does to detail: transfer, Strehl ratio, encircled energy.

Pure functions of PSFs (..., m, m) with the axis in pixel (m/2, m/2). Frequencies are cycles per
metre on the sensor; bands.py says what is left of a face.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from opticaldr.optics.bands import otf
from opticaldr.optics.propagation import samples_per_pixel
from opticaldr.optics.system import OpticalSystem


def fine_system(system: OpticalSystem) -> OpticalSystem:
    """The same optics on a sensor fine enough for every frequency that the pupil passes.

    The output pitch of the direct engine, halved: the PSF |U|^2 has twice the bandwidth of U.
    """
    return replace(system, sensor_pixels=2 * samples_per_pixel(system) * system.sensor_pixels)


# --- transfer -------------------------------------------------------------------------------


def ring_means(values: Tensor, *, rings: int) -> tuple[Tensor, Tensor]:
    """Means over rings of radius 0, 1, .. rings - 1 (one wide) of values on an FFT grid.

    Returns: mean radius of each ring [frequency steps], (rings,), and means (..., rings).
    """
    m = values.shape[-1]
    index = torch.fft.fftfreq(m, 1 / m, dtype=torch.float64)
    radius = torch.hypot(index[:, None], index[None, :]).flatten()
    ring = radius.round().long()
    kept = ring < rings
    count = torch.bincount(ring[kept], minlength=rings)
    flat = values.flatten(-2)[..., kept].double()
    total = torch.zeros(*flat.shape[:-1], rings, dtype=torch.float64)
    total.index_add_(-1, ring[kept], flat)
    radii = torch.bincount(ring[kept], radius[kept], minlength=rings)
    return radii / count, total / count


def mtf(
    psf: Float[Tensor, "*k m m"], *, pitch_m: float, size: int | None = None
) -> tuple[Tensor, Tensor]:
    """Modulation transfer, averaged over directions, up to the Nyquist frequency of the samples.

    size: samples across which the PSF is filled up with zeros, for closer frequencies.

    Returns: frequency (r,) [cycles/m] and modulation (..., r), 1 at frequency 0 for a unit sum.
    """
    m = max(size or 0, psf.shape[-1])
    margin = (m - psf.shape[-1]) // 2
    filled = torch.nn.functional.pad(psf, (margin,) * 4)
    radius, values = ring_means(otf(filled).abs(), rings=filled.shape[-1] // 2)
    return radius / (filled.shape[-1] * pitch_m), values


def strehl(psf: Float[Tensor, "*k 3 m m"], system: OpticalSystem) -> Float[Tensor, "*k 3"]:
    """Peak of a PSF sampled on `system` over the peak pi R^2 / (wavelength z)^2 of a perfect lens.

    Use fine_system(): pixels as wide as the Airy core average the peak away.
    """
    wavelength = torch.tensor(system.wavelengths_m, dtype=torch.float64)
    area = math.pi * system.aperture_radius_m**2 * system.sensor_pitch_m**2
    perfect = area / (wavelength * system.sensor_distance_m) ** 2
    return psf.double().amax((-2, -1)) / perfect


def axial_strehl(amplitude: Tensor, phase: Tensor) -> Tensor:
    """|mean of A exp(i phase)|^2 / |mean A|^2 over the pupil (..., n, n): intensity on the axis."""
    field = torch.polar(amplitude.expand_as(phase).contiguous(), phase)
    return field.sum((-2, -1)).abs().square() / amplitude.sum((-2, -1)).square()


def encircled_energy(
    psf: Float[Tensor, "*k m m"], radii_m: Float[Tensor, "r"], *, pitch_m: float
) -> Float[Tensor, "*k r"]:
    """Share of the light within radii_m [m] of the centroid, for a PSF on fine_system().

    Such samples hold every frequency of the PSF, so the light in a disc of radius r is exactly
    sum_f OTF(f) r J1(2 pi r |f|) / |f| df^2; no samples are counted. The window repeats itself:
    radii beyond half of it count light twice.
    """
    m = psf.shape[-1]
    index = torch.arange(m, dtype=torch.float64) - m // 2
    light = psf.double()
    total = light.sum((-2, -1))
    cy = (light.sum(-1) * index).sum(-1) / total
    cx = (light.sum(-2) * index).sum(-1) / total
    f = torch.fft.fftfreq(m, dtype=torch.float64)
    turn = cy[..., None, None] * f[:, None] + cx[..., None, None] * f[None, :]
    centred = (otf(light) * torch.polar(torch.ones_like(turn), 2 * math.pi * turn)).real
    # frequencies of equal modulus share their Bessel function
    steps = (f * m).round().long()
    squared = steps[:, None] ** 2 + steps[None, :] ** 2
    distinct, group = squared.unique(return_inverse=True)
    transfer = torch.zeros(*total.shape, len(distinct), dtype=torch.float64)
    transfer.index_add_(-1, group.flatten(), centred.flatten(-2))
    df = 1 / (m * pitch_m)
    nu = distinct.double().sqrt().clamp_min(1e-9) * df
    shares = [
        (transfer * (r * torch.special.bessel_j1(2 * math.pi * r * nu) / nu)).sum(-1) * df**2
        for r in radii_m.tolist()
    ]
    return torch.stack(shares, -1) / total[..., None]
