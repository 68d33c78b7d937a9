"""The lens equation: from the height of the surface to the point spread function (PSF).

A point at depth d [m] lights the lens; the plate adds its phase; the field travels z to the sensor:

    U = P_z { A exp(i k [ (n-1) h(u) + sqrt(|u|^2 + d^2) ]) },      PSF = |U|^2          (1)

with aperture A, surface height h [m], index n, k = 2 pi / wavelength, and P_z free-space travel.
Three formulations of P_z stand here behind one signature:

    psf_direct             one FFT on a pupil grid in direction cosines (fast, non-paraxial); default
    psf_two_fft            Fresnel transfer function, as in Sitzmann et al. 2018 (the paper's lineage)
    psf_angular_spectrum   exact transfer function, 2x padding; the slow reference

All take coefficients in micrometres (Noll 1..J) and depths in metres, and return (k, 3, m, m),
channels R, G, B, rows = +y downwards, the optical axis in pixel (m/2, m/2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from opticaldr.optics.system import OpticalSystem
from opticaldr.optics.zernike import zernike_basis
from opticaldr.types import InputError, Psf

MICROMETRE = 1e-6
WINDOWS = (256, 512, 1024, 2048)
"""Windows of psf_direct in samples; the smallest that holds the blur is taken."""
SAFE_FILL = 0.75
"""Largest blur diameter / window; at 0.745 a PSF misplaces 1.1e-3 of its light (test_propagation)."""


# --- the fast formulation -------------------------------------------------------------------


@dataclass(frozen=True)
class PupilGrid:
    """Everything of equation (2) that does not depend on surface or depth; colours first.

    basis: (3, J, n, n) k (n-1) Z_j [rad/m]. fixed: (3, n, n) phase of the sensor path and the
    centring tilt [rad]. radius2: (3, n, n) |u|^2 [m^2]. wavenumber: (3, 1, 1) k [rad/m].
    amplitude: (3, n, n) [1]. energy: (3, 1, 1) light through the pupil, window^2 sum A^2.
    """

    basis: Tensor
    fixed: Tensor
    radius2: Tensor
    wavenumber: Tensor
    amplitude: Tensor
    energy: Tensor
    window: int
    samples_per_pixel: int


def samples_per_pixel(system: OpticalSystem) -> int:
    """q: output samples per sensor pixel, a power of two, so that the pupil fits the FFT.

    The output pitch must satisfy pitch <= wavelength_min z / D.
    """
    limit = min(system.wavelengths_m) * system.sensor_distance_m / (2 * system.aperture_radius_m)
    return 2 ** max(0, math.ceil(math.log2(system.sensor_pitch_m / (1.02 * limit))))


@lru_cache(maxsize=6)
def pupil_grid(
    system: OpticalSystem, terms: int, window: int, device: torch.device, dtype: torch.dtype
) -> PupilGrid:
    """Builds the pupil grid in float64 and casts it; cached because it never changes.

    s = u / sqrt(|u|^2 + z^2) is the direction cosine of the ray from pupil point u to the axis
    point of the sensor, so u = z s / sqrt(1 - |s|^2). Sampling s at wavelength / (W pitch_out)
    makes a plain W-point FFT land on the same sensor grid at every wavelength.
    """
    z, radius = system.sensor_distance_m, system.aperture_radius_m
    q = samples_per_pixel(system)
    pitch_out = system.sensor_pitch_m / q
    s_max = radius / math.hypot(z, radius)
    pitches = [wavelength / (window * pitch_out) for wavelength in system.wavelengths_m]
    n = min(window, 2 * (int(s_max / min(pitches)) + 2))
    index = torch.arange(n, dtype=torch.float64) - n // 2
    sub = (torch.arange(8, dtype=torch.float64) + 0.5) / 8 - 0.5
    centring = (q - 1) / 2 * pitch_out  # moves the axis to the middle of a sensor pixel
    layers: dict[str, list[Tensor]] = {"basis": [], "fixed": [], "radius2": [], "amplitude": []}
    for pitch, wavelength, refraction in zip(
        pitches, system.wavelengths_m, system.indices, strict=True
    ):
        sy, sx = torch.meshgrid(index * pitch, index * pitch, indexing="ij")
        s2 = sx**2 + sy**2
        share = (s2 < s_max**2).double()
        edge = (s2.sqrt() - s_max).abs() < pitch  # grey edge: the covered part of each cell
        dy, dx = torch.meshgrid(sub * pitch, sub * pitch, indexing="ij")
        corners = (sx[edge][:, None, None] + dx) ** 2 + (sy[edge][:, None, None] + dy) ** 2
        share[edge] = (corners < s_max**2).double().mean((1, 2))
        cos2 = 1 - s2.clamp_max(0.5)
        x, y = z * sx / cos2.sqrt(), z * sy / cos2.sqrt()
        r2 = x**2 + y**2
        k = 2 * math.pi / wavelength
        norm = system.normalisation_radius_m
        zernikes = zernike_basis(terms, x / norm, y / norm, normalisation=system.normalisation)
        layers["basis"].append(k * (refraction - 1) * zernikes * (share > 0))
        # sqrt(r^2 + z^2) - z without cancellation (float32 would lose 1 rad otherwise)
        layers["fixed"].append(k * r2 / ((r2 + z**2).sqrt() + z) + k * centring * (sx + sy))
        layers["radius2"].append(r2)
        layers["amplitude"].append(share / cos2.sqrt())
    stacked = {name: torch.stack(parts) for name, parts in layers.items()}
    energy = window**2 * stacked["amplitude"].square().sum((-2, -1), keepdim=True)
    wavenumber = 2 * math.pi / torch.tensor(system.wavelengths_m, dtype=torch.float64)
    return PupilGrid(
        **{name: part.to(device, dtype) for name, part in stacked.items()},
        wavenumber=wavenumber[:, None, None].to(device, dtype),
        energy=energy.to(device, dtype),
        window=window,
        samples_per_pixel=q,
    )


def residual_phase(coefficients_um: Tensor, depths_m: Tensor, grid: PupilGrid) -> Tensor:
    """Phase left after lens, source and sensor curvature cancel, (k, 3, n, n) [rad].

    phi = k [ (n-1) h + (sqrt(r^2+z^2) - z) + (sqrt(r^2+d^2) - d) ]                       (2)
    """
    surface = torch.einsum("j,cjyx->cyx", coefficients_um * MICROMETRE, grid.basis) + grid.fixed
    d = depths_m[:, None, None, None]
    source = grid.wavenumber * grid.radius2 / ((grid.radius2 + d**2).sqrt() + d)
    return surface + source


@torch.no_grad()
def window_fill(
    coefficients_um: Tensor, depths_m: Tensor, system: OpticalSystem, *, window: int
) -> Float[Tensor, "k"]:
    """Blur diameter / window per depth = largest step of the residual phase / pi.

    Below 0.75 the PSF is right to 2e-3 on sensor pixels; at 1 and above light wraps round.
    """
    grid = pupil_grid(
        system, coefficients_um.numel(), window, coefficients_um.device, coefficients_um.dtype
    )
    phase = residual_phase(coefficients_um, depths_m, grid)
    inside = grid.amplitude > 0
    worst = []
    for axis in (-1, -2):
        both = inside.narrow(axis, 1, inside.shape[axis] - 1) & inside.narrow(
            axis, 0, inside.shape[axis] - 1
        )
        worst.append((phase.diff(dim=axis).abs() * both).amax((1, 2, 3)))
    return torch.maximum(*worst) / math.pi


def choose_window(coefficients_um: Tensor, depths_m: Tensor, system: OpticalSystem) -> int:
    """Smallest window that holds the blur of every depth; InputError if none does."""
    coarse = WINDOWS[0]
    blur = coarse * float(window_fill(coefficients_um, depths_m, system, window=coarse).max())
    for window in WINDOWS:
        if blur <= SAFE_FILL * window:
            return window
    pitch = 1e6 * system.sensor_pitch_m / samples_per_pixel(system)
    raise InputError(
        f"Expected a lens whose blur fits {SAFE_FILL * WINDOWS[-1]:.0f} samples of {pitch:.2f} um, "
        f"found a blur of {blur:.0f} samples; reduce the coefficients or the depth range."
    )


def psf_direct(
    coefficients_um: Float[Tensor, "terms"],
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
        coefficients_um: Noll coefficients 1..J [um].
        depths_m: distances of the point source [m].
        system: the fixed geometry.
        window: FFT size in samples; chosen from the blur if None.

    Returns: (k, 3, window / q, window / q), sums to 1.
    """
    check_lens(coefficients_um, depths_m)
    window = window or choose_window(coefficients_um, depths_m, system)
    grid = pupil_grid(
        system, coefficients_um.numel(), window, coefficients_um.device, coefficients_um.dtype
    )
    phase = residual_phase(coefficients_um, depths_m, grid)
    field = torch.polar(grid.amplitude.expand_as(phase).contiguous(), phase)
    spectrum = torch.fft.fftshift(torch.fft.fft2(field, s=(window, window)), dim=(-2, -1))
    intensity = (spectrum.real.square() + spectrum.imag.square()) / grid.energy
    return box_sum(intensity, grid.samples_per_pixel)


# --- the two transfer-function formulations --------------------------------------------------


@lru_cache(maxsize=2)
def _wavefront_axes(system: OpticalSystem, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sample positions x, y of the wavefront grid [m], (N, N) float64, axis on sample N/2."""
    axis = torch.arange(system.grid, dtype=torch.float64, device=device) - system.grid // 2
    y, x = torch.meshgrid(axis * system.pitch_m, axis * system.pitch_m, indexing="ij")
    return x, y


@lru_cache(maxsize=2)
def _wavefront_basis(system: OpticalSystem, terms: int, device: torch.device) -> Tensor:
    """Zernike basis on the wavefront grid, (terms, N, N) float64, zero outside the disc."""
    x, y = _wavefront_axes(system, device)
    norm = system.normalisation_radius_m
    inside = x**2 + y**2 <= norm**2
    return inside * zernike_basis(terms, x / norm, y / norm, normalisation=system.normalisation)


def height_map(coefficients_um: Tensor, system: OpticalSystem) -> Float[Tensor, "n n"]:
    """Height of the surface h = sum_j a_j Z_j [m] on the wavefront grid, zero outside the disc."""
    basis = _wavefront_basis(system, coefficients_um.numel(), coefficients_um.device)
    return torch.einsum("j,jyx->yx", coefficients_um.double() * MICROMETRE, basis)


def _psf_by_transfer_function(
    coefficients_um: Tensor, depths_m: Tensor, system: OpticalSystem, *, exact: bool, padding: int
) -> Tensor:
    """|P_z{...}|^2 of equation (1) on the N x N wavefront grid, not normalised, (k, 3, N, N)."""
    check_lens(coefficients_um, depths_m)
    complex_dtype = torch.complex128 if coefficients_um.dtype == torch.float64 else torch.complex64
    x, y = _wavefront_axes(system, coefficients_um.device)
    r2 = x**2 + y**2
    z, size = system.sensor_distance_m, system.grid + 2 * padding
    aperture = r2.sqrt() < system.aperture_radius_m
    height = height_map(coefficients_um, system)
    frequency = torch.fft.fftfreq(size, system.pitch_m, dtype=torch.float64, device=x.device)
    f2 = frequency[:, None] ** 2 + frequency[None, :] ** 2
    centre = slice(padding, padding + system.grid)
    depth_psfs = []
    for depth in depths_m.double():
        source = r2 / ((r2 + depth**2).sqrt() + depth)
        colours = []
        for wavelength, refraction in zip(system.wavelengths_m, system.indices, strict=True):
            k = 2 * math.pi / wavelength
            phase = k * ((refraction - 1) * height + source)
            field = torch.polar(aperture.double(), phase).to(complex_dtype)
            if exact:  # H = exp(i k z (sqrt(1 - (wavelength f)^2) - 1))
                path = -(wavelength**2) * f2 / ((1 - wavelength**2 * f2).sqrt() + 1)
                transfer = torch.polar(torch.ones_like(f2), k * z * path)
            else:  # H = exp(-i pi wavelength z f^2)
                transfer = torch.polar(torch.ones_like(f2), -math.pi * wavelength * z * f2)
            spectrum = torch.fft.fft2(torch.nn.functional.pad(field, (padding,) * 4))
            at_sensor = torch.fft.ifft2(spectrum * transfer.to(complex_dtype))[centre, centre]
            colours.append(at_sensor.real.square() + at_sensor.imag.square())
        depth_psfs.append(torch.stack(colours))
    return torch.stack(depth_psfs)


def psf_two_fft(
    coefficients_um: Float[Tensor, "terms"], depths_m: Float[Tensor, "k"], system: OpticalSystem
) -> Psf:
    """PSF by the paper's lineage: Fresnel transfer function, N/4 zeros per side (paper.md 2.1).

    float64 phases, complex64 fields (complex128 if the coefficients are float64). The result is
    divided by its sum per colour and depth, so light that leaves the grid is renormalised away;
    after the box average the axis lies 0.375 px before the centre of pixel S/2 (S = N/4).

    Returns: (k, 3, S, S), sums to 1.
    """
    fine = _psf_by_transfer_function(
        coefficients_um, depths_m, system, exact=False, padding=system.grid // 4
    )
    return _pool_and_normalise(fine, system)


def psf_angular_spectrum(
    coefficients_um: Float[Tensor, "terms"], depths_m: Float[Tensor, "k"], system: OpticalSystem
) -> Psf:
    """PSF by the exact (non-paraxial) angular spectrum, N/2 zeros per side: the slow reference.

    Same sampling, normalisation and axis position as psf_two_fft. Returns: (k, 3, S, S).
    """
    fine = _psf_by_transfer_function(
        coefficients_um, depths_m, system, exact=True, padding=system.grid // 2
    )
    return _pool_and_normalise(fine, system)


def _pool_and_normalise(fine: Tensor, system: OpticalSystem) -> Tensor:
    if system.grid % system.sensor_pixels:
        raise InputError(
            f"Expected sensor_pixels to divide the grid of {system.grid} samples, found "
            f"{system.sensor_pixels}; choose a divisor or use the direct engine."
        )
    pooled = box_sum(fine, system.grid // system.sensor_pixels)
    return pooled / pooled.sum((-2, -1), keepdim=True)


# --- shared ----------------------------------------------------------------------------------


def box_sum(values: Tensor, q: int) -> Tensor:
    """Sums q x q samples to one pixel (pixel-area integration): (..., m q, m q) -> (..., m, m)."""
    rows, columns = values.shape[-2] // q, values.shape[-1] // q
    return values.reshape(*values.shape[:-2], rows, q, columns, q).sum((-3, -1))


def check_lens(coefficients_um: Tensor, depths_m: Tensor) -> None:
    """InputError unless the coefficients are finite and the depths finite and positive."""
    if not bool(torch.isfinite(coefficients_um).all()):
        bad = [i + 1 for i, ok in enumerate(torch.isfinite(coefficients_um).tolist()) if not ok]
        raise InputError(
            f"Expected finite lens coefficients, found NaN or infinity at Noll index {bad}; "
            "restore the lens from an earlier state or lower the lens learning rate."
        )
    if not bool((torch.isfinite(depths_m) & (depths_m > 0)).all()):
        raise InputError(
            f"Expected depths above 0 m, found {[round(d, 4) for d in depths_m.tolist()]}; "
            "give the distance from lens to face in metres."
        )
