"""What an attacker can get back of a face: transfer, signal-to-noise ratio, recoverable band.

Pure functions of a point spread function in sensor pixels (..., m, m), axis in pixel (m/2, m/2),
and of a face that spans so many of them. Nothing here knows how the PSF came about: a designed
lens, a measured one and plain blur are treated alike. All are differentiable in the PSF, but for
the counts of recoverable_band.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from opticaldr.types import InputError

FACE_WIDTH_M = 0.16
"""Width of a face from ear to ear [m] (privacy.md 4.6)."""
IDENTITY_BAND = (8.0, 16.0)
"""Spatial frequencies by which people recognise faces [cycles per face] (privacy.md 1.2)."""
SPECTRUM_LEVEL = 4.5e-3
"""Power of face detail, see face_spectrum [full scale^2 per (cycle/face)^2]."""


def face_spectrum(cycles_per_face: Tensor) -> Tensor:
    """Power spectral density of faces in linear light [full scale^2 per (cycle/face)^2].

    4.5e-3 / (1 + k^3). Fitted to 301 LFW crops (green, Hann window, mean removed): within a
    factor of 1.6 from 1 to 16 c/face. Their compression removes power beyond 16 c/face, the
    model does not: it errs towards the attacker there.
    """
    return SPECTRUM_LEVEL / (1 + cycles_per_face**3)


def face_frequencies(pixels: int, face_pixels: float) -> Float[Tensor, "s s"]:
    """Cycles per face of every frequency of a picture, in FFT order.

    pixels: s, side of the picture [px]. face_pixels: width of the face in it [px].
    """
    f = torch.fft.fftfreq(pixels, 1 / face_pixels, dtype=torch.float64)
    return torch.hypot(f[:, None], f[None, :])


def face_power(pixels: int, face_pixels: float) -> Float[Tensor, "s s"]:
    """S_f of the model face_spectrum: power of a unitary DFT, in which white noise has power s^2."""
    return face_spectrum(face_frequencies(pixels, face_pixels)) * face_pixels**2


def otf(psf: Float[Tensor, "*k m m"]) -> Tensor:
    """Optical transfer function, (..., m, m) complex, frequency 0 at index (0, 0), axis as origin."""
    return torch.fft.fft2(torch.fft.ifftshift(psf, dim=(-2, -1)))


def fold(psf: Float[Tensor, "*k m m"], size: int) -> Float[Tensor, "*k s s"]:
    """A PSF on size x size pixels, axis at size // 2; light beyond the frame wraps round, which
    samples the transfer function at the frequencies of the frame.
    """
    m = psf.shape[-1]
    column = (torch.arange(m, device=psf.device) - m // 2 + size // 2) % size
    rows = psf.new_zeros(*psf.shape[:-2], size, m).index_add_(-2, column, psf)
    return psf.new_zeros(*psf.shape[:-2], size, size).index_add_(-1, column, rows)


def signal_to_noise(
    psf: Float[Tensor, "*k m m"], power: Float[Tensor, "*p s s"], *, noise: float, frames: int = 1
) -> Float[Tensor, "*k s s"]:
    """SNR_f = n |H_f|^2 S_f / s^2 at every frequency of an s x s picture (privacy.md 4.0).

    power: S_f, FFT order: face_power or measured. noise: s, standard deviation per sample and
    frame [full scale]. frames: n, that the attacker averages. Add the SNR of the three colours for
    an attacker who uses all of them.
    """
    if not (noise > 0 and frames >= 1):
        raise InputError(
            f"Expected noise above 0 and at least 1 frame, found {noise} and {frames}; without "
            "noise every detail that is not exactly zero comes back."
        )
    transfer = otf(fold(psf.double(), power.shape[-1]))
    passed = transfer.real.square() + transfer.imag.square()  # abs() has no gradient at a zero
    return frames * passed * power.to(passed) / noise**2


def recoverable_band(
    snr: Float[Tensor, "*k s s"], cycles_per_face: Float[Tensor, "s s"]
) -> Float[Tensor, "*k"]:
    """k*: largest k such that in every ring up to k at least half of the frequencies have SNR > 1.

    Ring k holds k - 1/2 <= c/face < k + 1/2, k = 1, 2, .. (privacy.md 4.0). A design indicator,
    not a bound: priors exceed it, and what they add is not measured detail.
    """
    good = (ring_shares((snr > 1).double(), cycles_per_face) >= 0.5).long()
    return good.cumprod(-1).sum(-1)


def ring_shares(
    values: Float[Tensor, "*k s s"], cycles_per_face: Float[Tensor, "s s"]
) -> Float[Tensor, "*k r"]:
    """Mean of values over the rings of recoverable_band, k = 1, 2, .. r, differentiable."""
    last = int(cycles_per_face[0].max())  # beyond the edge of the grid rings are incomplete
    ring = (cycles_per_face + 0.5).floor().long().flatten().to(values.device)
    kept = ring <= last
    count = torch.bincount(ring[kept], minlength=last + 1)
    total = values.new_zeros(*values.shape[:-2], last + 1)
    total = total.index_add(-1, ring[kept], values.flatten(-2)[..., kept])
    return (total / count)[..., 1:]  # frequency 0 is brightness, not detail


def ring_snr(
    snr: Float[Tensor, "*k s s"], cycles_per_face: Float[Tensor, "s s"]
) -> tuple[Tensor, Tensor]:
    """Median SNR of the rings of recoverable_band: k (r,) [c/face] and SNR (..., r)."""
    last = int(cycles_per_face[0].max())
    ring = (cycles_per_face + 0.5).floor().long()
    medians = [snr[..., ring == k].median(-1).values for k in range(1, last + 1)]
    return torch.arange(1, last + 1), torch.stack(medians, -1)
