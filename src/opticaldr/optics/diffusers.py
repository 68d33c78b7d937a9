"""Diffuser plates: surfaces whose slopes follow a normal law, so that a point becomes a Gaussian.

Geometric optics sends the light of a pupil point with slope g = dh/dx to x = z (n-1) g, so the PSF
is the histogram of the slopes: normal slopes of standard deviation s give a Gaussian of standard
deviation z (n-1) s per axis. The one parameter is the strength, a factor on all slopes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from opticaldr.optics.surfaces import MICROMETRE, LinearSurface
from opticaldr.types import InputError

WAVES = 256
"""Plane waves in a random plate: the slope at a point is then normal to 1.5 / 256 in kurtosis."""
CUT = 0.0027
"""Share of an engineered cell's profile beyond three standard deviations, which is left out."""


class Diffuser(LinearSurface):
    """A fixed pattern times a strength [1]. slope_rms: per axis, over the disc of radius_m."""

    slope_rms: float

    @property
    def count(self) -> int:
        return 1

    def like_parabola(self, curvature_per_m: float) -> tuple[float, ...]:
        """A diffuser has no power: the flat plate is the nearest."""
        return (0.0,)


def _check_positive(slope_rms: float, length_m: float) -> None:
    if not (0 < slope_rms < 1 and 0 < length_m < math.inf):
        raise InputError(
            f"Expected a diffuser with a slope RMS between 0 and 1 and a length above 0 m, found "
            f"{slope_rms} and {length_m} m; a slope RMS of 0.005 doubles as 0.3 degrees."
        )


@dataclass(frozen=True)
class RandomDiffuser(Diffuser):
    """Ground glass: a Gaussian random height with correlation exp(-distance^2 / correlation_m^2).

    A sum of plane waves with normal wave vectors and uniform phases: the same plate at every
    sampling. Mean tilt is taken out and the slope RMS holds exactly for this plate (seed). The
    PSF is the Fourier transform of exp(-f^2 (1 - correlation)) with f rad of phase RMS: its second
    moment is the geometric one, its radial kurtosis 2 + 2 / f^2 (2 = Gaussian), so keep f above 3.
    """

    slope_rms: float
    correlation_m: float
    radius_m: float
    seed: int = 0

    def __post_init__(self) -> None:
        _check_positive(self.slope_rms, self.correlation_m)

    @property
    def feature_m(self) -> float:
        return self.correlation_m

    def basis(self, x: Tensor, y: Tensor) -> Tensor:
        waves, scale, tilt = _random_plate(self)
        pattern = torch.zeros_like(x)
        for kx, ky, phase in waves.tolist():
            pattern = pattern + (kx * x + ky * y + phase).cos()
        return (scale * (pattern - tilt[0] * x - tilt[1] * y) / MICROMETRE)[None]


@lru_cache(maxsize=8)
def _random_plate(plate: RandomDiffuser) -> tuple[Tensor, float, tuple[float, float]]:
    """Wave vectors [rad/m] and phases (WAVES, 3), the scale of their sum, its mean slopes."""
    generator = torch.Generator().manual_seed(plate.seed)
    draw = {"generator": generator, "dtype": torch.float64}
    vectors = torch.randn(WAVES, 2, **draw) * math.sqrt(2) / plate.correlation_m
    phases = 2 * math.pi * torch.rand(WAVES, 1, **draw)
    # slopes on a grid over the disc, fine enough for the correlation length
    side = min(512, max(64, math.ceil(4 * plate.radius_m / plate.correlation_m)))
    axis = plate.radius_m * ((torch.arange(side, dtype=torch.float64) + 0.5) * 2 / side - 1)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = x**2 + y**2 < plate.radius_m**2
    slopes = torch.zeros(2, int(inside.sum()), dtype=torch.float64)
    for vector, phase in zip(vectors, phases, strict=True):
        slopes -= vector[:, None] * (vector[0] * x[inside] + vector[1] * y[inside] + phase).sin()
    tilt = slopes.mean(1)
    spread = (slopes - tilt[:, None]).square().mean().sqrt()
    waves = torch.cat([vectors, phases], dim=1)
    return waves, plate.slope_rms / float(spread), (float(tilt[0]), float(tilt[1]))


@dataclass(frozen=True)
class EngineeredDiffuser(Diffuser):
    """Lenslets along x and y whose slopes run through the normal law by design.

    In a cell of width w at relative position u the slope is s Phi^-1(u), hence the height
    -w s phi(Phi^-1(u)) with the normal density phi. Widths are uniform in [0.5, 1.5] cell_m
    (seed): equal cells would be a grating. Cells must be wide against wavelength z / blur, or
    their own diffraction shapes the PSF.
    """

    slope_rms: float
    cell_m: float
    radius_m: float
    seed: int = 0

    def __post_init__(self) -> None:
        _check_positive(self.slope_rms, self.cell_m)

    @property
    def feature_m(self) -> float:
        return self.cell_m / 4

    def basis(self, x: Tensor, y: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        total = torch.zeros_like(x)
        for position in (x, y):
            cells = math.ceil(4 * self.radius_m / self.cell_m) + 2
            widths = self.cell_m * (
                0.5 + torch.rand(cells, generator=generator, dtype=torch.float64)
            ).to(x.device)
            edges = torch.cat([widths.new_zeros(1), widths.cumsum(0)])
            edges -= edges[-1] / 2
            which = torch.searchsorted(edges, position.contiguous(), right=True) - 1
            which = which.clamp(0, cells - 1)
            u = ((position - edges[which]) / widths[which]).clamp(0, 1)
            # the outer CUT of the law is left out; the rest is stretched to the same spread
            quantile = torch.special.ndtri(CUT / 2 + (1 - CUT) * u)
            density = torch.exp(-(quantile**2) / 2) / math.sqrt(2 * math.pi)
            total = total - widths[which] * density
        return (self.slope_rms / _kept_spread() / (1 - CUT) * total / MICROMETRE)[None]


def _kept_spread() -> float:
    """Standard deviation of a normal law without its outer CUT: sqrt(1 - 2 a phi(a) / (1 - CUT))."""
    a = float(torch.special.ndtri(torch.tensor(1 - CUT / 2, dtype=torch.float64)))
    return math.sqrt(1 - 2 * a * math.exp(-(a**2) / 2) / math.sqrt(2 * math.pi) / (1 - CUT))
