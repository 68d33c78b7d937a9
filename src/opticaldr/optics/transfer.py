"""The lens equation by transfer functions: the lineage's two FFTs and the exact angular spectrum.

Slow references behind the signature of propagation.psf_direct, for the same equation (1). Both
compute the whole N x N wavefront for every depth and colour.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from opticaldr.optics.checks import check_lens
from opticaldr.optics.imaging import box_sum
from opticaldr.optics.surfaces import Prepared
from opticaldr.optics.system import OpticalSystem
from opticaldr.types import InputError, Psf


@lru_cache(maxsize=2)
def _wavefront_axes(system: OpticalSystem, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sample positions x, y of the wavefront grid [m], (N, N) float64, axis on sample N/2."""
    axis = torch.arange(system.grid, dtype=torch.float64, device=device) - system.grid // 2
    y, x = torch.meshgrid(axis * system.pitch_m, axis * system.pitch_m, indexing="ij")
    return x, y


@lru_cache(maxsize=2)
def _wavefront_surface(
    system: OpticalSystem, count: int, device: torch.device
) -> tuple[Tensor, Prepared]:
    """Where the plate is, (N, N), and its surface prepared there in float64."""
    x, y = _wavefront_axes(system, device)
    inside = x**2 + y**2 <= system.normalisation_radius_m**2
    return inside, system.shape(count).prepare(x * inside, y * inside)


def height_map(parameters: Tensor, system: OpticalSystem) -> Float[Tensor, "n n"]:
    """Height of the surface [m] on the wavefront grid, zero outside the disc of the plate."""
    inside, prepared = _wavefront_surface(system, parameters.numel(), parameters.device)
    return inside * system.shape(parameters.numel()).evaluate(parameters.double(), prepared)


def _psf_by_transfer_function(
    parameters: Tensor, depths_m: Tensor, system: OpticalSystem, *, exact: bool, padding: int
) -> Tensor:
    """|P_z{...}|^2 of equation (1) on the N x N wavefront grid, not normalised, (k, 3, N, N)."""
    check_lens(parameters, depths_m, system)
    complex_dtype = torch.complex128 if parameters.dtype == torch.float64 else torch.complex64
    x, y = _wavefront_axes(system, parameters.device)
    r2 = x**2 + y**2
    z, size = system.sensor_distance_m, system.grid + 2 * padding
    radius = r2.sqrt()
    aperture = (radius < system.aperture_radius_m) & (radius >= system.obstruction_diameter_m / 2)
    height = height_map(parameters, system)
    frequency = torch.fft.fftfreq(size, system.pitch_m, dtype=torch.float64, device=x.device)
    f2 = frequency[:, None] ** 2 + frequency[None, :] ** 2
    centre = slice(padding, padding + system.grid)
    depth_psfs = []
    for depth in depths_m.double():
        source = r2 / ((r2 + depth**2).sqrt() + depth)
        colours = []
        for wavelength, refraction in zip(system.wavelengths_m, system.indices, strict=True):
            k = 2 * math.pi / wavelength
            phase = k * ((refraction - 1) * height + source)  # as propagation.residual_phase
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
    parameters: Float[Tensor, "count"], depths_m: Float[Tensor, "k"], system: OpticalSystem
) -> Psf:
    """PSF by the paper's lineage: Fresnel transfer function, N/4 zeros per side (paper.md 2.1).

    float64 phases, complex64 fields (complex128 if the parameters are float64). The result is
    divided by its sum per colour and depth, so light that leaves the grid is renormalised away;
    after the box average the axis lies 0.375 px before the centre of pixel S/2 (S = N/4).

    Returns: (k, 3, S, S), sums to 1.
    """
    fine = _psf_by_transfer_function(
        parameters, depths_m, system, exact=False, padding=system.grid // 4
    )
    return _pool_and_normalise(fine, system)


@torch.no_grad()
def light_kept(
    parameters: Float[Tensor, "count"], depths_m: Float[Tensor, "k"], system: OpticalSystem
) -> Float[Tensor, "k 3"]:
    """Share of the light through the aperture that psf_two_fft finds on the grid; the rest left."""
    fine = _psf_by_transfer_function(
        parameters, depths_m, system, exact=False, padding=system.grid // 4
    )
    x, y = _wavefront_axes(system, parameters.device)
    radius = torch.hypot(x, y)
    open_to_light = (radius < system.aperture_radius_m) & (
        radius >= system.obstruction_diameter_m / 2
    )
    return fine.sum((-2, -1)) / open_to_light.sum()


def psf_angular_spectrum(
    parameters: Float[Tensor, "count"], depths_m: Float[Tensor, "k"], system: OpticalSystem
) -> Psf:
    """PSF by the exact (non-paraxial) angular spectrum, N/2 zeros per side: the slow reference.

    Same sampling, normalisation and axis position as psf_two_fft. Returns: (k, 3, S, S).
    """
    fine = _psf_by_transfer_function(
        parameters, depths_m, system, exact=True, padding=system.grid // 2
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
