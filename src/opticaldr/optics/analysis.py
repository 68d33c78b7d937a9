"""What a point spread function does to detail: transfer, Strehl, encircled energy, recoverable band.

Pure functions of PSFs (..., m, m) with the axis in pixel (m/2, m/2). Frequencies are cycles per
metre on the sensor, or cycles per face (optics.geometry) where a face is meant.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from opticaldr.optics.geometry import FaceGeometry
from opticaldr.optics.propagation import samples_per_pixel
from opticaldr.optics.system import OpticalSystem
from opticaldr.types import InputError

SPECTRUM_LEVEL = 4.5e-3
"""Power of face detail, see face_spectrum [full scale^2 per (cycle/face)^2]."""


def fine_system(system: OpticalSystem) -> OpticalSystem:
    """The same optics on a sensor fine enough for every frequency that the pupil passes.

    The output pitch of the direct engine, halved: the PSF |U|^2 has twice the bandwidth of U.
    """
    return replace(system, sensor_pixels=2 * samples_per_pixel(system) * system.sensor_pixels)


# --- transfer -------------------------------------------------------------------------------


def otf(psf: Float[Tensor, "*k m m"]) -> Tensor:
    """Optical transfer function, (..., m, m) complex, frequency 0 at index (0, 0), axis as origin."""
    return torch.fft.fft2(torch.fft.ifftshift(psf, dim=(-2, -1)))


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


# --- what an attacker can get back -----------------------------------------------------------


def face_spectrum(cycles_per_face: Tensor) -> Tensor:
    """Power spectral density of faces in linear light [full scale^2 per (cycle/face)^2].

    4.5e-3 / (1 + k^3). Fitted to 301 LFW crops (green, Hann window, mean removed): within a
    factor of 1.6 from 1 to 16 c/face. Their compression removes power beyond 16 c/face, the
    model does not: it errs towards the attacker there.
    """
    return SPECTRUM_LEVEL / (1 + cycles_per_face**3)


def face_frequencies(geometry: FaceGeometry) -> Float[Tensor, "s s"]:
    """Cycles per face of every frequency of a picture as wide as the sensor, FFT order."""
    s = geometry.system.sensor_pixels
    step = geometry.per_face(1 / geometry.sensor_width_m)
    f = torch.fft.fftfreq(s, 1 / s, dtype=torch.float64) * step
    return torch.hypot(f[:, None], f[None, :])


def signal_to_noise(
    psf: Float[Tensor, "*k m m"], geometry: FaceGeometry, *, noise: float, frames: int = 1
) -> Float[Tensor, "*k s s"]:
    """SNR_f = n |H_f|^2 S_f / s^2 of a face at every frequency of the sensor (privacy.md 4.0).

    psf: in sensor pixels. noise: s, standard deviation per sample and frame [full scale].
    S_f = face_spectrum x (pixels per face)^2 is the power of a unitary DFT, in which white noise
    has power s^2. Add the SNR of the three colours for an attacker who uses all of them.
    """
    if not (noise > 0 and frames >= 1):
        raise InputError(
            f"Expected noise above 0 and at least 1 frame, found {noise} and {frames}; without "
            "noise every detail that is not exactly zero comes back."
        )
    folded = _fold(psf.double(), geometry.system.sensor_pixels)
    power = face_spectrum(face_frequencies(geometry)) * geometry.face_pixels**2
    return frames * otf(folded).abs().square() * power / noise**2


def _fold(psf: Tensor, size: int) -> Tensor:
    """A PSF on size x size pixels, axis at size // 2; light beyond the frame wraps round, which
    samples the transfer function at the frequencies of the frame.
    """
    m = psf.shape[-1]
    column = (torch.arange(m) - m // 2 + size // 2) % size
    rows = psf.new_zeros(*psf.shape[:-2], size, m).index_add_(-2, column, psf)
    return psf.new_zeros(*psf.shape[:-2], size, size).index_add_(-1, column, rows)


def recoverable_band(
    snr: Float[Tensor, "*k s s"], cycles_per_face: Float[Tensor, "s s"]
) -> Float[Tensor, "*k"]:
    """k*: largest k such that in every ring up to k at least half of the frequencies have SNR > 1.

    Ring k holds k - 1/2 <= c/face < k + 1/2, k = 1, 2, .. (privacy.md 4.0). A design indicator,
    not a bound: priors exceed it, and what they add is not measured detail.
    """
    last = int(cycles_per_face[0].max())  # beyond the edge of the grid rings are incomplete
    ring = (cycles_per_face + 0.5).floor().long().flatten()
    kept = ring <= last
    count = torch.bincount(ring[kept], minlength=last + 1)
    above = torch.zeros(*snr.shape[:-2], last + 1, dtype=torch.float64)
    above.index_add_(-1, ring[kept], (snr.flatten(-2)[..., kept] > 1).double())
    good = (above >= 0.5 * count)[..., 1:]  # frequency 0 is brightness, not detail
    return good.long().cumprod(-1).sum(-1)


def ring_snr(
    snr: Float[Tensor, "*k s s"], cycles_per_face: Float[Tensor, "s s"]
) -> tuple[Tensor, Tensor]:
    """Median SNR of the rings of recoverable_band: k (r,) [c/face] and SNR (..., r)."""
    last = int(cycles_per_face[0].max())
    ring = (cycles_per_face + 0.5).floor().long()
    medians = [snr[..., ring == k].median(-1).values for k in range(1, last + 1)]
    return torch.arange(1, last + 1), torch.stack(medians, -1)
