"""Restoring what known optics blurred, by linear estimators (rung A4; privacy.md 4.0, 7.5).

Records y = H x + noise, scenes x ~ N(m, S) with the mean m and the power spectrum S of the attacker's
own clean faces. Among linear estimators the best one minimises

    |H x - y|^2 / v + (x - m)' S^-1 (x - m),     v = variance of the noise                        (1)

`wiener` solves (1) as if the mirrored record were periodic: one division in the Fourier domain.
`solve` solves it as it stands by conjugate gradients, with H from an unknown canvas, larger than the
sensor, to the part of the blurred picture that the sensor shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor

from opticaldr.optics.bands import fold
from opticaldr.privacy.cameras import Border, Optics, convolve
from opticaldr.types import Capture, Irradiance, Psf, Scene

LIGHT_KEPT = 1 - 1e-4
"""Share of a PSF's light inside the square to which it is trimmed: below 8 bits of any record."""
ITERATIONS, CONVERGED = 300, 2e-4
"""Of the conjugate gradients, at most, and the share of the first residual at which they stop: tens
of iterations for symmetric blurs, hundreds for lopsided ones with little noise."""
LOPSIDED = 0.02
"""Share of light that must move to mirror a PSF, from which on a mirrored border misleads."""


# --- what the attacker expects of a face --------------------------------------------------------


@dataclass(frozen=True)
class ScenePrior:
    """Mean and radially averaged power spectrum of clean faces.

    mean: (1, 3, s, s). radius: (r,) [cycles/pixel]. curve: (3, r) mean power of one coefficient of
    the orthonormal transform, so that it does not depend on the size of the canvas.
    """

    mean: Scene
    radius: Tensor
    curve: Tensor

    def power(self, size: int) -> Float[Tensor, "3 size half"]:
        """S on the half spectrum of a size x size canvas, interpolated in its logarithm."""
        radius = _radii(size)
        right = torch.searchsorted(self.radius, radius).clamp(1, len(self.radius) - 1)
        low, high = self.radius[right - 1], self.radius[right]
        share = ((radius - low) / (high - low)).clamp(0, 1)
        logarithm = self.curve.log()
        return torch.lerp(logarithm[:, right - 1], logarithm[:, right], share).exp().float()


def scene_prior(scenes: Scene) -> ScenePrior:
    """Prior from clean scenes (n, 3, s, s), such as the attacker's own faces."""
    mean = scenes.mean(0, keepdim=True)
    spectrum = torch.fft.rfft2(mirror(scenes - mean), norm="ortho")
    power = spectrum.abs().square().double().mean(0)
    # faces without any detail (a test card) still need a prior that can be inverted
    curve = ring_means(power).clamp_min(1e-12)
    size = spectrum.shape[-2]
    return ScenePrior(mean, torch.arange(size // 2 + 1, dtype=torch.float64) / size, curve)


def ring_means(power: Float[Tensor, "3 n half"]) -> Float[Tensor, "3 half"]:
    """Mean over rings of one cycle per canvas, up to the highest frequency of a row."""
    size = power.shape[-2]
    ring = (_radii(size) * size).round().long().flatten()
    inside = ring <= size // 2
    total = torch.zeros(3, size // 2 + 1, dtype=torch.float64)
    total.index_add_(1, ring[inside], power.double().flatten(1)[:, inside])
    return total / torch.bincount(ring[inside])


def _radii(size: int) -> Tensor:
    """(size, size // 2 + 1) radial frequency [cycles/pixel]."""
    y = torch.fft.fftfreq(size, dtype=torch.float64)[:, None]
    return torch.hypot(y, torch.fft.rfftfreq(size, dtype=torch.float64)[None, :])


def mirror(picture: Tensor) -> Tensor:
    """(.., s, s) to (.., 2s - 2, 2s - 2): one period of the endlessly mirrored picture."""
    wide = torch.cat([picture, picture[..., 1:-1].flip(-1)], dim=-1)
    return torch.cat([wide, wide[..., 1:-1, :].flip(-2)], dim=-2)


# --- one division -------------------------------------------------------------------------------


def transfer(psf: Psf, size: int) -> Tensor:
    """(3, size, size // 2 + 1): OTF of a PSF (1, 3, m, m) on a periodic canvas, axis at the origin."""
    return torch.fft.rfft2(torch.fft.ifftshift(fold(psf[0], size), dim=(-2, -1)))


def wiener(
    captures: Capture, psf: Psf, *, prior: ScenePrior, noise_variance: float, border: Border
) -> Scene:
    """m + F^-1 { conj(H) S / (|H|^2 S + v) F{y - H m} }, per colour.

    The record is mirrored at its edges, which is exact for a symmetric PSF and a mirrored border.
    """
    size = captures.shape[-1]
    residual = mirror(captures - convolve(prior.mean, psf, border))
    canvas = residual.shape[-1]
    gain = wiener_gain(transfer(psf, canvas), prior.power(canvas), noise_variance)
    restored = _picture(_spectrum(residual, canvas) * gain, canvas)
    return prior.mean + restored[..., :size, :size]


def mirror_suits(psf: Psf) -> bool:
    """Whether a mirrored record is the blur of a mirrored scene: the PSF equals its mirror images.

    Defocus and spherical aberration do; oblique astigmatism and coma do not, and mislead the filter
    at the borders the more frames are averaged. The axis is pixel (m // 2, m // 2).
    """
    about_axis = psf[..., 1:, 1:] if psf.shape[-1] % 2 == 0 else psf
    moved = [0.5 * (about_axis - about_axis.flip(axis)).abs().sum((-2, -1)) for axis in (-1, -2)]
    return float(torch.stack(moved).max()) < LOPSIDED


def wiener_gain(otf: Tensor, power: Tensor, noise_variance: float) -> Tensor:
    """conj(H) S / (|H|^2 S + v) at every frequency; power for an orthonormal transform."""
    return otf.conj() * power / (otf.abs().square() * power + noise_variance)


# --- conjugate gradients ------------------------------------------------------------------------


class Forward(Protocol):
    """H as a map from a periodic canvas, given by its spectrum, to the record; and its adjoint.

    canvas: side of the canvas [px]; the sensor lies on its first rows and columns.
    """

    canvas: int

    def __call__(self, spectrum: Tensor) -> Irradiance: ...

    def adjoint(self, record: Irradiance) -> Tensor: ...

    def gain(self, size: int) -> Tensor | float:
        """About |H|^2 on the half spectrum of another canvas; only speed depends on it."""
        ...


@dataclass(frozen=True)
class SensorCrop:
    """Convolution of an unknown scene that goes on beyond the frame; the sensor shows `size` px."""

    psf: Psf = field(repr=False)
    size: int

    @cached_property
    def canvas(self) -> int:
        return next_fast_len(self.size + self._kernel.shape[-1] - 1, real=True)

    @cached_property
    def _kernel(self) -> Psf:
        return trim(self.psf, largest=2 * self.size - 1)

    @cached_property
    def _otf(self) -> Tensor:
        return transfer(self._kernel, self.canvas)

    def __call__(self, spectrum: Tensor) -> Irradiance:
        return _picture(spectrum * self._otf, self.canvas)[..., : self.size, : self.size]

    def adjoint(self, record: Irradiance) -> Tensor:
        return _spectrum(record, self.canvas) * self._otf.conj()

    def gain(self, size: int) -> Tensor:
        return transfer(self._kernel, size).abs().square()


@dataclass(frozen=True)
class Through:
    """The simulated optics as they are: what lies beyond the frame is known (dark or mirrored)."""

    optics: Optics
    size: int

    @property
    def canvas(self) -> int:
        return next_fast_len(self.size + self.size // 4, real=True)  # room against wrapping round

    def __call__(self, spectrum: Tensor) -> Irradiance:
        return self.optics(_picture(spectrum, self.canvas)[..., : self.size, : self.size])

    def adjoint(self, record: Irradiance) -> Tensor:
        # the optics are linear, so their gradient at 0 is their adjoint everywhere
        with torch.inference_mode(False), torch.enable_grad():
            scene = torch.zeros(record.shape, requires_grad=True)
            (back,) = torch.autograd.grad(self.optics(scene), scene, record.clone())
        return _spectrum(back, self.canvas)

    def gain(self, size: int) -> Tensor | float:
        return 1.0 if self.optics.psf is None else transfer(self.optics.psf, size).abs().square()


def solve(
    captures: Capture,
    forward: Forward,
    *,
    prior: ScenePrior,
    noise_variance: float,
    iterations: int = ITERATIONS,
) -> Scene:
    """The minimiser of (1) for each picture and colour: x = m + S H' u, (H S H' + v) u = y - H m.

    In this form the unknown u lives on the sensor, where dividing by |H|^2 S + v on the mirrored
    record (a cosine transform) nearly inverts the matrix if the PSF is symmetric.
    """
    size, canvas = captures.shape[-1], forward.canvas
    power, shown = prior.power(canvas), prior.power(2 * size)
    nearly = 1 / (forward.gain(2 * size) * shown + noise_variance)
    # only what is even in either axis is symmetric on mirrored records, as gradients need it
    nearly = (nearly + nearly.flip(-2).roll(1, -2)) / 2

    def scene_of(record: Tensor) -> Tensor:
        return power * forward.adjoint(record)

    def precondition(record: Tensor) -> Tensor:
        twice = torch.cat([record, record.flip(-1)], dim=-1)
        twice = torch.cat([twice, twice.flip(-2)], dim=-2)
        return _picture(_spectrum(twice, 2 * size) * nearly, 2 * size)[..., :size, :size]

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum((-2, -1), keepdim=True).clamp_min(1e-30)

    mean = _spectrum(_wrapped(prior.mean, canvas), canvas)
    remainder = captures - forward(mean)
    step = towards = precondition(remainder)
    found = torch.zeros_like(captures)
    slope = first = dot(remainder, towards)
    for _ in range(iterations):
        if float((slope / first).max()) < CONVERGED**2:
            break
        moved = forward(scene_of(step)) + noise_variance * step
        length = slope / dot(step, moved)
        found = found + length * step
        remainder = remainder - length * moved
        towards = precondition(remainder)
        before, slope = slope, dot(remainder, towards)
        step = towards + slope / before * step
    return _picture(mean + scene_of(found), canvas)[..., :size, :size]


def trim(psf: Psf, *, largest: int) -> Psf:
    """The smallest centred square of odd side up to `largest` that holds LIGHT_KEPT of the light."""
    if psf.shape[-1] % 2 == 0:
        psf = F.pad(psf, (0, 1, 0, 1))  # the axis stays where it is
    extent, axis = psf.shape[-1], psf.shape[-1] // 2
    offset = (torch.arange(extent) - axis).abs()
    ring = torch.maximum(offset[:, None], offset[None, :]).flatten()
    light = psf.new_zeros(3, axis + 1).index_add(1, ring, psf[0].flatten(1)).double().cumsum(1)
    half = int((light < LIGHT_KEPT * light[:, -1:]).sum(1).max())
    half = min(half, (largest - 1) // 2)
    return psf[..., axis - half : axis + half + 1, axis - half : axis + half + 1]


def _spectrum(picture: Tensor, canvas: int) -> Tensor:
    return torch.fft.rfft2(picture, s=(canvas, canvas), norm="ortho")


def _picture(spectrum: Tensor, canvas: int) -> Tensor:
    return torch.fft.irfft2(spectrum, s=(canvas, canvas), norm="ortho")


def _wrapped(picture: Tensor, canvas: int) -> Tensor:
    """(.., s, s) on a periodic canvas, mirrored into the room on either side."""
    size = picture.shape[-1]
    index = torch.arange(canvas)
    past, ahead = index - size + 1, canvas - index  # steps beyond the right and the left edge
    mirrored = torch.where(past <= ahead, size - 1 - past, ahead).clamp(0, size - 1)
    place = torch.where(index < size, index, mirrored)
    return picture[..., place[:, None], place[None, :]]
