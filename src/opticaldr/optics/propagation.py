"""The lens equation: from the height of the surface to the point spread function (PSF).

A point at depth d [m] lights the lens; the plate adds its phase; the field travels z to the sensor:

    U = P_z { A exp(i k [ (n-1) h(u) + sqrt(|u|^2 + d^2) ]) },      PSF = |U|^2          (1)

with aperture A, surface height h [m], index n, k = 2 pi / wavelength, and P_z free-space travel.
Three formulations of P_z stand behind one signature:

    psf_direct             one FFT on a pupil grid in direction cosines (fast, non-paraxial); here
    psf_two_fft            Fresnel transfer function, as in Sitzmann et al. 2018 (optics.transfer)
    psf_angular_spectrum   exact transfer function, 2x padding; the slow reference (optics.transfer)

All take the parameters of system.surface (None: Noll coefficients 1..J in micrometres) and depths
in metres, and return (k, 3, m, m), channels R, G, B, rows = +y downwards, the optical axis in pixel
(m/2, m/2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from opticaldr.optics.checks import check_lens
from opticaldr.optics.imaging import box_sum
from opticaldr.optics.surfaces import Prepared, Surface, cast
from opticaldr.optics.system import OpticalSystem
from opticaldr.types import InputError, Psf

WINDOWS = (256, 512, 1024, 2048)
"""Windows of psf_direct in samples; the smallest that holds the blur is taken."""
SAFE_FILL = 0.75
"""Largest blur diameter / window; at 0.745 a PSF misplaces 1.1e-3 of its light (test_propagation)."""
WIDE = 0.1
"""Smallest |beta| for which the path is corrected off the axis: it moves 2e-4 of the light there."""
_RINGS, _SPOKES = 16, 16
"""Sample points of the mean curvature of a surface; enough for all Noll terms in use."""


@dataclass(frozen=True)
class PupilGrid:
    """Everything of equation (2) that does not depend on parameters or depth; colours first.

    surface: positions (n, n) of each colour, prepared. fixed: (3, n, n) phase of the sensor path and the
    centring tilt [rad]. radius2: (3, n, n) |u|^2 [m^2]. wavenumber, glass: (3, 1, 1) k and k (n-1)
    [rad/m]. amplitude: (3, n, n) [1], divided by the root of the light through the pupil and with
    a chequerboard of signs, which puts the axis in the middle of the transform.
    neighbours: along x (3, n, n-1) and y (3, n-1, n), 1 where both samples see light, else 0.
    probes: (p,) positions in the pupil, prepared. curvature_weight: (p,) such that the mean
    curvature of heights h there is their weighted sum [1/m]. distance: z [m].
    """

    shape: Surface
    surface: tuple[Prepared, ...]
    fixed: Tensor
    radius2: Tensor
    wavenumber: Tensor
    glass: Tensor
    amplitude: Tensor
    neighbours: tuple[Tensor, Tensor]
    probes: Prepared
    curvature_weight: Tensor
    distance: float
    window: int
    samples_per_pixel: int


def samples_per_pixel(system: OpticalSystem) -> int:
    """q: output samples per sensor pixel, a power of two, so that the pupil fits the FFT.

    The output pitch must satisfy pitch <= wavelength_min z / D.
    """
    limit = min(system.wavelengths_m) * system.sensor_distance_m / (2 * system.aperture_radius_m)
    return 2 ** max(0, math.ceil(math.log2(system.sensor_pitch_m / (1.02 * limit))))


def _covered(sx: Tensor, sy: Tensor, pitch: float, s_max: float) -> Tensor:
    """Share of each cell inside the circle |s| < s_max: grey edge from 8 x 8 sub-samples."""
    s2 = sx**2 + sy**2
    share = (s2 < s_max**2).double()
    edge = (s2.sqrt() - s_max).abs() < pitch
    sub = ((torch.arange(8, dtype=torch.float64) + 0.5) / 8 - 0.5) * pitch
    corners = (sx[edge][:, None, None] + sub) ** 2 + (sy[edge][:, None, None] + sub[:, None]) ** 2
    share[edge] = (corners < s_max**2).double().mean((1, 2))
    return share


@lru_cache(maxsize=6)
def pupil_grid(
    system: OpticalSystem, count: int, window: int, device: torch.device, dtype: torch.dtype
) -> PupilGrid:
    """Builds the pupil grid in float64 and casts it; cached because it never changes.

    s = u / sqrt(|u|^2 + z^2) is the direction cosine of the ray from pupil point u to the axis
    point of the sensor, so u = z s / sqrt(1 - |s|^2). Sampling s at wavelength / (W pitch_out)
    makes a plain W-point FFT land on the same sensor grid at every wavelength. Equal areas of the
    pupil carry equal light, A^2 d2s = d2u, which is the amplitude 1 / (1 - |s|^2).
    """
    z = system.sensor_distance_m
    q = samples_per_pixel(system)
    pitch_out = system.sensor_pitch_m / q
    s_max, s_min = (
        radius / math.hypot(z, radius)
        for radius in (system.aperture_radius_m, system.obstruction_diameter_m / 2)
    )
    pitches = [wavelength / (window * pitch_out) for wavelength in system.wavelengths_m]
    n = min(window, 2 * (int(s_max / min(pitches)) + 2))
    index = torch.arange(n, dtype=torch.float64) - n // 2
    sign = 1 - 2 * (index % 2)
    centring = (q - 1) / 2 * pitch_out  # moves the axis to the middle of a sensor pixel
    layers: dict[str, list[Tensor]] = {"fixed": [], "radius2": [], "amplitude": []}
    shape = system.shape(count)
    surface = []
    for pitch, wavelength in zip(pitches, system.wavelengths_m, strict=True):
        sy, sx = torch.meshgrid(index * pitch, index * pitch, indexing="ij")
        share = _covered(sx, sy, pitch, s_max)
        if s_min:
            share = share - _covered(sx, sy, pitch, s_min)
        cos2 = 1 - (sx**2 + sy**2).clamp_max(0.5)
        x, y = z * sx / cos2.sqrt(), z * sy / cos2.sqrt()
        r2 = x**2 + y**2
        inside = share > 0  # no surface outside the pupil
        surface.append(cast(shape.prepare(x * inside, y * inside), device, dtype))
        k = 2 * math.pi / wavelength
        # sqrt(r^2 + z^2) - z without cancellation (float32 would lose 1 rad otherwise)
        layers["fixed"].append(k * r2 / ((r2 + z**2).sqrt() + z) + k * centring * (sx + sy))
        layers["radius2"].append(r2)
        bright = share / cos2
        light = window**2 * bright.square().sum()
        layers["amplitude"].append(bright / light.sqrt() * sign[:, None] * sign)
    probes, weight = _curvature_probes(system)
    wavenumber = 2 * math.pi / torch.tensor(system.wavelengths_m, dtype=torch.float64)
    glass = wavenumber * (torch.tensor(system.indices, dtype=torch.float64) - 1)
    stacked = {name: torch.stack(parts).to(device, dtype) for name, parts in layers.items()}
    lit = stacked["amplitude"] != 0
    return PupilGrid(
        **stacked,
        neighbours=(
            (lit[..., 1:] & lit[..., :-1]).to(dtype),
            (lit[..., 1:, :] & lit[..., :-1, :]).to(dtype),
        ),
        shape=shape,
        surface=tuple(surface),
        wavenumber=wavenumber[:, None, None].to(device, dtype),
        glass=glass[:, None, None].to(device, dtype),
        probes=cast(shape.prepare(*probes), device, dtype),
        curvature_weight=weight.to(device, dtype),
        distance=z,
        window=window,
        samples_per_pixel=q,
    )


def _curvature_probes(system: OpticalSystem) -> tuple[Tensor, Tensor]:
    """Points x, y (2, p) [m] that fill the pupil evenly, and weights of the mean curvature (p,)."""
    rings = (torch.arange(_RINGS, dtype=torch.float64) + 0.5) / _RINGS
    spokes = 2 * math.pi * torch.arange(_SPOKES, dtype=torch.float64) / _SPOKES
    radius = system.aperture_radius_m * rings.sqrt()[:, None].expand(-1, _SPOKES)
    x, y = radius * spokes.cos(), radius * spokes.sin()
    centred = (radius**2 - (radius**2).mean()).flatten()
    # least squares of h = c r^2 / 2 + constant
    return torch.stack([x.flatten(), y.flatten()]), 2 * centred / centred.square().sum()


def ray_scale(parameters: Tensor, depths_m: Tensor, grid: PupilGrid) -> Float[Tensor, "k 3"]:
    """beta: a ray through pupil point u meets the sensor near beta u; 0 in focus, -1 at z = 2 f.

    beta = 1 + z ((n-1) c + 1/d), with the mean curvature c of the surface.
    """
    curvature = (grid.shape.evaluate(parameters, grid.probes) * grid.curvature_weight).sum()
    refraction = (grid.glass / grid.wavenumber).flatten()
    return 1 + grid.distance * (refraction * curvature + 1 / depths_m[:, None])


def residual_phase(
    parameters: Tensor, depths_m: Tensor, grid: PupilGrid, *, colour: int
) -> Float[Tensor, "k n n"]:
    """Phase left after lens, source and sensor curvature cancel, of one colour [rad].

    phi = k [ (n-1) h + (sqrt(r^2+z^2) - z) + (sqrt(r^2+d^2) - d) - (3 b^2 - b^3) r^4 / 8 z^3 ]  (2)

    The kernel exp(-i k s.x) takes the path |x - u| to first order in x. The next order,
    -(4 (x.u)^2 + 2 x^2 u^2 - 4 x^2 x.u) / 8 z^3, bends rays that miss the axis; the last term of (2)
    bends the ray from u to x = b u by as much (b = ray_scale), so light arrives where it should.

    h: height of the surface [m], larger where the plate is thicker; k (n-1) = grid.glass [rad/m];
    z: plate to sensor [m], d = depths_m: object to plate [m], r: distance from the axis [m].
    """
    height = grid.shape.evaluate(parameters, grid.surface[colour])
    r2 = grid.radius2[colour]
    d = depths_m[:, None, None]
    path = r2 / ((r2 + d**2).sqrt() + d)
    beta = ray_scale(parameters, depths_m, grid)[:, colour, None, None]
    if float(beta.detach().abs().max()) > WIDE:
        path = path + (beta - 3) * beta**2 / (8 * grid.distance**3) * r2**2
    return (grid.glass[colour] * height + grid.fixed[colour]) + grid.wavenumber[colour] * path


@torch.no_grad()
def window_fill(
    parameters: Tensor, depths_m: Tensor, system: OpticalSystem, *, window: int
) -> Float[Tensor, "k"]:
    """Blur diameter / window per depth = largest step of the residual phase / pi.

    Below 0.75 the PSF is right to 2e-3 on sensor pixels; at 1 and above light wraps round.
    """
    grid = pupil_grid(system, parameters.numel(), window, parameters.device, parameters.dtype)
    worst = []
    for colour in range(3):
        phase = residual_phase(parameters, depths_m, grid, colour=colour)
        for axis, both in zip((-1, -2), grid.neighbours, strict=True):
            steps = phase.diff(dim=axis).mul_(both[colour])
            worst += [steps.amax((1, 2)), -steps.amin((1, 2))]
    return torch.stack(worst).amax(0) / math.pi


def coarse_window(system: OpticalSystem, count: int) -> int:
    """Smallest window whose pupil grid has four samples in the surface's smallest feature."""
    feature = system.shape(count).feature_m
    pitch_out = system.sensor_pitch_m / samples_per_pixel(system)
    span = max(system.wavelengths_m) * system.sensor_distance_m / pitch_out
    wanted = 4 * span / feature
    for window in WINDOWS:
        if wanted <= window:
            return window
    raise InputError(
        f"Expected a surface with features of at least {4e6 * span / WINDOWS[-1]:.0f} um, found "
        f"{1e6 * feature:.0f} um, which needs a window of {2 ** math.ceil(math.log2(wanted))} "
        f"samples where {WINDOWS[-1]} is the largest; take fewer parameters or a coarser plate."
    )


def choose_window(
    parameters: Tensor,
    depths_m: Tensor,
    system: OpticalSystem,
    *,
    largest: int = WINDOWS[-1],
) -> int:
    """Smallest window up to `largest` that holds the blur of every depth; InputError if none does."""
    coarse = coarse_window(system, parameters.numel())
    ends = torch.stack(torch.aminmax(depths_m))  # the blur is widest at one of them
    blur = coarse * float(window_fill(parameters, ends, system, window=coarse).max())
    for window in WINDOWS:
        if coarse <= window <= largest and blur <= SAFE_FILL * window:
            return window
    pitch = 1e6 * system.sensor_pitch_m / samples_per_pixel(system)
    enough = max(coarse, 2 ** math.ceil(math.log2(max(blur, 1) / SAFE_FILL)))
    remedy = (
        f"a window of {enough} samples would do: raise max_window, or"
        if enough <= WINDOWS[-1]
        else f"a window of {enough} samples would be needed and {WINDOWS[-1]} is the largest:"
    )
    raise InputError(
        f"Expected a lens whose blur fits {SAFE_FILL * largest:.0f} samples of {pitch:.2f} um "
        f"(window {largest}), found a blur of {blur:.0f} samples; {remedy} reduce the coefficients "
        "or keep faces further away."
    )


class _Diffraction(torch.autograd.Function):
    """|FFT_W{ A exp(i phi) }|^2 summed over q x q samples, with the gradient written out.

    With U = F{f} and f = A exp(i phi): dI = 2 Re(conj(U) F{i f dphi}), so the gradient of sum(g I)
    is 2 Im(conj(f) F^H{g U}); half the time and memory of differentiating each step.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        phase: Tensor,
        amplitude: Tensor,
        window: int,
        q: int,
    ) -> Tensor:
        field = torch.complex(phase.cos().mul_(amplitude), phase.sin().mul_(amplitude))
        spectrum = torch.fft.fft2(field, s=(window, window))
        ctx.save_for_backward(field, spectrum)
        ctx.q = q
        intensity = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
        return box_sum(intensity, q)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor, None, None, None]:
        field, spectrum = ctx.saved_tensors
        n = field.shape[-1]
        fine = gradient.repeat_interleave(ctx.q, -1).repeat_interleave(ctx.q, -2)
        back = torch.fft.ifft2(spectrum * fine, norm="forward")[..., :n, :n]
        return (field.real * back.imag).sub_(field.imag * back.real).mul_(2), None, None, None


def psf_direct(
    parameters: Float[Tensor, "count"],
    depths_m: Float[Tensor, "k"],
    system: OpticalSystem,
    *,
    window: int | None = None,
) -> Psf:
    """PSF by one FFT of the residual phase on a grid of direction cosines.

    U(x) = FFT_W { A(s) exp(i phi(s)) } with phi of equation (2); |U|^2 is divided by the light
    through the pupil (a constant, by Parseval), so light that is lost or wrapped stays visible,
    and q x q samples are summed to one sensor pixel.

    Args:
        parameters: of the surface; Noll coefficients 1..J [um] unless system.surface says otherwise.
        depths_m: distances of the point source [m].
        system: the fixed geometry.
        window: FFT size in samples; chosen from the blur if None.

    Returns: (k, 3, window / q, window / q), sums to 1.
    """
    check_lens(parameters, depths_m, system)
    window = window or choose_window(parameters, depths_m, system)
    grid = pupil_grid(system, parameters.numel(), window, parameters.device, parameters.dtype)
    colours = []
    for colour, amplitude in enumerate(grid.amplitude):  # one at a time stays in the cache
        phase = residual_phase(parameters, depths_m, grid, colour=colour)
        colours.append(_Diffraction.apply(phase, amplitude, window, grid.samples_per_pixel))
    return torch.stack(colours, dim=1)
