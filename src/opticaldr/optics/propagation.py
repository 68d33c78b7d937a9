"""The lens equation: from the height of the surface to the point spread function (PSF).

A point at depth d [m] lights the lens; the plate adds its phase; the field travels z to the sensor:

    U = P_z { A exp(i k [ (n-1) h(u) + sqrt(|u|^2 + d^2) ]) },      PSF = |U|^2          (1)

with aperture A, surface height h [m], index n, k = 2 pi / wavelength, and P_z free-space travel.
Three formulations of P_z stand here behind one signature:

    psf_direct             one FFT on a pupil grid in direction cosines (fast, non-paraxial); default
    psf_two_fft            Fresnel transfer function, as in Sitzmann et al. 2018 (the paper's lineage)
    psf_angular_spectrum   exact transfer function, 2x padding; the slow reference

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

from opticaldr.optics.surfaces import Prepared, Surface, cast
from opticaldr.optics.system import OpticalSystem
from opticaldr.types import InputError, Psf

MAX_PARAMETER = 1e4
"""Largest surface parameter: 1e4 um = 1 cm of height, no longer a thin element."""
WINDOWS = (256, 512, 1024, 2048)
"""Windows of psf_direct in samples; the smallest that holds the blur is taken."""
SAFE_FILL = 0.75
"""Largest blur diameter / window; at 0.745 a PSF misplaces 1.1e-3 of its light (test_propagation)."""


# --- the fast formulation -------------------------------------------------------------------


@dataclass(frozen=True)
class PupilGrid:
    """Everything of equation (2) that does not depend on parameters or depth; colours first.

    surface: (3, n, n) positions, prepared. fixed: (3, n, n) phase of the sensor path and the
    centring tilt [rad]. radius2: (3, n, n) |u|^2 [m^2]. wavenumber, glass: (3, 1, 1) k and k (n-1)
    [rad/m]. amplitude: (3, n, n) [1], divided by the root of the light through the pupil and with
    a chequerboard of signs, which puts the axis in the middle of the transform.
    """

    shape: Surface
    surface: Prepared
    fixed: Tensor
    radius2: Tensor
    wavenumber: Tensor
    glass: Tensor
    amplitude: Tensor
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
    makes a plain W-point FFT land on the same sensor grid at every wavelength.
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
    positions = []
    for pitch, wavelength in zip(pitches, system.wavelengths_m, strict=True):
        sy, sx = torch.meshgrid(index * pitch, index * pitch, indexing="ij")
        share = _covered(sx, sy, pitch, s_max)
        if s_min:
            share = share - _covered(sx, sy, pitch, s_min)
        cos2 = 1 - (sx**2 + sy**2).clamp_max(0.5)
        x, y = z * sx / cos2.sqrt(), z * sy / cos2.sqrt()
        r2 = x**2 + y**2
        positions.append(torch.stack([x, y]) * (share > 0))  # no surface outside the pupil
        k = 2 * math.pi / wavelength
        # sqrt(r^2 + z^2) - z without cancellation (float32 would lose 1 rad otherwise)
        layers["fixed"].append(k * r2 / ((r2 + z**2).sqrt() + z) + k * centring * (sx + sy))
        layers["radius2"].append(r2)
        bright = share / cos2.sqrt()
        light = window**2 * bright.square().sum()
        layers["amplitude"].append(bright / light.sqrt() * sign[:, None] * sign)
    shape = system.shape(count)
    wavenumber = 2 * math.pi / torch.tensor(system.wavelengths_m, dtype=torch.float64)
    glass = wavenumber * (torch.tensor(system.indices, dtype=torch.float64) - 1)
    return PupilGrid(
        **{name: torch.stack(parts).to(device, dtype) for name, parts in layers.items()},
        shape=shape,
        surface=cast(shape.prepare(*torch.stack(positions, dim=1)), device, dtype),
        wavenumber=wavenumber[:, None, None].to(device, dtype),
        glass=glass[:, None, None].to(device, dtype),
        window=window,
        samples_per_pixel=q,
    )


def residual_phase(parameters: Tensor, depths_m: Tensor, grid: PupilGrid) -> Tensor:
    """Phase left after lens, source and sensor curvature cancel, (k, 3, n, n) [rad].

    phi = k [ (n-1) h + (sqrt(r^2+z^2) - z) + (sqrt(r^2+d^2) - d) ]                       (2)
    """
    height = grid.shape.evaluate(parameters, grid.surface)
    d = depths_m[:, None, None, None]
    source = grid.wavenumber * grid.radius2 / ((grid.radius2 + d**2).sqrt() + d)
    return (grid.glass * height + grid.fixed) + source


@torch.no_grad()
def window_fill(
    parameters: Tensor, depths_m: Tensor, system: OpticalSystem, *, window: int
) -> Float[Tensor, "k"]:
    """Blur diameter / window per depth = largest step of the residual phase / pi.

    Below 0.75 the PSF is right to 2e-3 on sensor pixels; at 1 and above light wraps round.
    """
    grid = pupil_grid(system, parameters.numel(), window, parameters.device, parameters.dtype)
    phase = residual_phase(parameters, depths_m, grid)
    inside = grid.amplitude != 0
    worst = []
    for axis in (-1, -2):
        both = inside.narrow(axis, 1, inside.shape[axis] - 1) & inside.narrow(
            axis, 0, inside.shape[axis] - 1
        )
        worst.append((phase.diff(dim=axis).abs() * both).amax((1, 2, 3)))
    return torch.maximum(*worst) / math.pi


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
        "or the depth range."
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
    phase = residual_phase(parameters, depths_m, grid)
    return _Diffraction.apply(phase, grid.amplitude, window, grid.samples_per_pixel)


# --- the two transfer-function formulations --------------------------------------------------


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


# --- shared ----------------------------------------------------------------------------------


def box_sum(values: Tensor, q: int) -> Tensor:
    """Sums q x q samples to one pixel (pixel-area integration): (..., m q, m q) -> (..., m, m)."""
    planes = values.reshape(1, -1, *values.shape[-2:])
    pooled = torch.nn.functional.avg_pool2d(planes, q, divisor_override=1)
    return pooled.view(*values.shape[:-2], *pooled.shape[-2:])


def check_lens(parameters: Tensor, depths_m: Tensor, system: OpticalSystem | None = None) -> None:
    """InputError unless parameters are finite and not huge, and depths finite and positive.

    With a system, the number of parameters must be that of its surface.
    """
    name = "Noll index"
    if system is not None and system.surface is not None:
        name = "parameter"
        system.surface.check_count(parameters)
    finite = torch.isfinite(parameters)
    if not bool(finite.all()):
        bad = [i + 1 for i, ok in enumerate(finite.tolist()) if not ok]
        raise InputError(
            f"Expected finite lens coefficients, found NaN or infinity at {name} {bad}; "
            "restore the lens from an earlier state or lower the lens learning rate."
        )
    largest = int(parameters.detach().abs().argmax())
    if float(parameters.detach()[largest].abs()) > MAX_PARAMETER:
        raise InputError(
            f"Expected lens coefficients of at most {MAX_PARAMETER:.0f} um, found "
            f"{float(parameters.detach()[largest]):.3g} at {name} {largest + 1}; a thin element is "
            "micrometres high."
        )
    if not bool((torch.isfinite(depths_m) & (depths_m > 0)).all()):
        raise InputError(
            f"Expected depths above 0 m, found {[round(d, 4) for d in depths_m.tolist()]}; "
            "give the distance from lens to face in metres."
        )
