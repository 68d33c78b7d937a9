"""Point spread functions off the axis.

The direct formulation of optics.propagation with source and sensor point moved off the axis; the
plate stays the same thin phase. Obliquity inside the glass is left out (it thickens a 0.1 mm sag by
0.05 um at 3 degrees), and so is the cos^4 loss of light (1.1 % in the corner of the sensor).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from opticaldr.optics.propagation import (
    SAFE_FILL,
    WINDOWS,
    box_sum,
    check_lens,
    samples_per_pixel,
)
from opticaldr.optics.system import OpticalSystem
from opticaldr.types import InputError, Psf


@dataclass(frozen=True)
class Sag:
    """A surface as a function of position, without gradient.

    height: x, y [m], float64, any shape -> height of the glass [m]. feature_m: length over which
    its slope can change [m].
    """

    height: Callable[[Tensor, Tensor], Tensor]
    feature_m: float

    @classmethod
    def of(cls, parameters: Tensor, system: OpticalSystem) -> Sag:
        """The plate with these parameters; InputError if they are no surface."""
        check_lens(parameters, torch.ones(1), system)
        surface, values = system.shape(parameters.numel()), parameters.detach().double().cpu()
        return cls(lambda x, y: surface.height(values, x, y), surface.feature_m)


@dataclass(frozen=True)
class _Pupil:
    """One colour of the pupil seen from one image point: positions on the plate, cell coverage.

    s_y, s_x: (n, n) direction cosines relative to the chief ray. x, y: (n, n) on the plate [m].
    share: (n, n) covered part of each cell.
    """

    s_y: Tensor
    s_x: Tensor
    x: Tensor
    y: Tensor
    share: Tensor


def _pupil(
    system: OpticalSystem, wavelength: float, image: tuple[float, float], window: int
) -> _Pupil:
    """The pupil on a grid of direction cosines about the chief ray to the image point (x, y) [m].

    s = (u - x0) / sqrt(|u - x0|^2 + z^2), so u = x0 + z s / sqrt(1 - |s|^2).
    """
    z, radius = system.sensor_distance_m, system.aperture_radius_m
    pitch = wavelength / (window * system.sensor_pitch_m / samples_per_pixel(system))
    n = min(window, 2 * (int(radius / z / pitch) + 2))
    index = (torch.arange(n, dtype=torch.float64) - n // 2) * pitch
    s_y, s_x = torch.meshgrid(index, index, indexing="ij")
    chief = math.sqrt(image[0] ** 2 + image[1] ** 2 + z**2)

    def on_plate(sx: Tensor, sy: Tensor) -> tuple[Tensor, Tensor]:
        sx, sy = sx - image[0] / chief, sy - image[1] / chief
        slope = z / (1 - (sx**2 + sy**2).clamp_max(0.5)).sqrt()
        return image[0] + slope * sx, image[1] + slope * sy

    sub = ((torch.arange(8, dtype=torch.float64) + 0.5) / 8 - 0.5) * pitch
    dy, dx = torch.meshgrid(sub, sub, indexing="ij")

    def covered(radius: float) -> Tensor:
        share = (distance < radius).double()
        edge = (distance - radius).abs() < 1.5 * z * pitch  # grey edge, as in propagation
        corner = on_plate(s_x[edge][:, None, None] + dx, s_y[edge][:, None, None] + dy)
        share[edge] = (torch.hypot(*corner) < radius).double().mean((1, 2))
        return share

    x, y = on_plate(s_x, s_y)
    distance = torch.hypot(x, y)
    share = covered(radius)
    if system.obstruction_diameter_m:
        share = share - covered(system.obstruction_diameter_m / 2)
    return _Pupil(s_y, s_x, x, y, share)


def _residual(
    pupil: _Pupil,
    height: Tensor,
    depth: float,
    system: OpticalSystem,
    colour: int,
    image: tuple[float, float],
    curvature: float,
) -> Tensor:
    """Phase left on the pupil for a point whose chief ray ends at the image point, (n, n) [rad].

    Both path differences are written as (|u|^2 - 2 u.p) / (sum of the two paths): no cancellation.
    The kernel is of first order in the distance from the image point x0. What the next order does
    to the ray from u that ends at x0 + b u (equation (2) of propagation, about x0) is the gradient
    of ((b - 3) b^2 r^4 + 4 b^2 r^2 u.x0) / 8 z^3.
    """
    z = system.sensor_distance_m
    r2 = pupil.x**2 + pupil.y**2
    paths = torch.zeros_like(r2)
    # the object point is at -d/z times the image point: the chief ray goes straight
    for along, scale in ((z, 1.0), (depth, -depth / z)):
        px, py = scale * image[0], scale * image[1]
        p2 = px**2 + py**2
        difference = r2 - 2 * (pupil.x * px + pupil.y * py)
        paths += difference / ((difference + p2 + along**2).sqrt() + math.sqrt(p2 + along**2))
    k, refraction = 2 * math.pi / system.wavelengths_m[colour], system.indices[colour] - 1
    b = 1 + z * (refraction * curvature + 1 / depth)
    towards = pupil.x * image[0] + pupil.y * image[1]
    bend = b**2 * r2 * ((b - 3) * r2 + 4 * towards) / (8 * z**3)
    return k * (refraction * height + paths + bend)


def _mean_curvature(sag: Sag, system: OpticalSystem) -> float:
    """c of the parabola c r^2 / 2 nearest to the plate over the aperture [1/m]."""
    radius = system.aperture_radius_m
    axis = radius * ((torch.arange(48, dtype=torch.float64) + 0.5) / 24 - 1)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    r2 = x**2 + y**2
    inside = r2 < radius**2
    centred = r2[inside] - r2[inside].mean()
    height = sag.height(x, y)[inside]
    return float(2 * (height * centred).sum() / centred.square().sum())


def _fill(phase: Tensor, share: Tensor) -> float:
    """Largest step of the phase between neighbours inside the pupil / pi = blur / window."""
    inside = share > 0
    rows = (phase.diff(dim=0).abs() * (inside[1:] & inside[:-1])).max()
    columns = (phase.diff(dim=1).abs() * (inside[:, 1:] & inside[:, :-1])).max()
    return float(torch.maximum(rows, columns)) / math.pi


@torch.no_grad()
def psf_off_axis(
    sag: Sag,
    depths_m: Float[Tensor, "k"],
    system: OpticalSystem,
    *,
    field_rad: tuple[float, float] = (0.0, 0.0),
    read_at_m: tuple[float, float] = (0.0, 0.0),
    window: int | None = None,
) -> Psf:
    """PSF about the image point z tan(field), for a point whose chief ray arrives there.

    The direct formulation of propagation.psf_direct with the source wave and the sensor moved
    off the axis; the plate stays the same thin phase. Float64 phases, complex64 fields.

    Args:
        sag: the surface.
        depths_m: axial distances of the point source [m].
        system: the fixed geometry.
        field_rad: field angle of the image point in x and y [rad].
        read_at_m: where pixel (m/2, m/2) lies, in x and y from the image point [m].
        window: FFT size in samples; the smallest of WINDOWS that holds the blur if None.

    Returns: (k, 3, m, m), sums to 1.
    """
    check_lens(torch.zeros(1), depths_m)
    image = _image_point(field_rad, system)
    window = window or _window(sag, depths_m, system, image, read_at_m)
    q = samples_per_pixel(system)
    centring = (q - 1) / 2 * system.sensor_pitch_m / q
    curvature, colours = _mean_curvature(sag, system), []
    for colour, wavelength in enumerate(system.wavelengths_m):
        pupil = _pupil(system, wavelength, image, window)
        surface = sag.height(pupil.x, pupil.y)
        k = 2 * math.pi / wavelength
        # equal areas of the pupil carry equal light: A^2 d2s = d2u
        ray2 = (pupil.x - image[0]) ** 2 + (pupil.y - image[1]) ** 2
        amplitude = (pupil.share * (1 + ray2 / system.sensor_distance_m**2)).float()
        energy = window**2 * float(amplitude.double().square().sum())
        depth_psfs = []
        for depth in depths_m.tolist():
            phase = _residual(pupil, surface, depth, system, colour, image, curvature)
            phase = phase - k * (
                (read_at_m[0] - centring) * pupil.s_x + (read_at_m[1] - centring) * pupil.s_y
            )
            # wrapped in float64: float32 would lose 1e-5 rad of a phase of some hundred
            field = torch.polar(amplitude, (phase % (2 * math.pi)).float())
            spectrum = torch.fft.fftshift(torch.fft.fft2(field, s=(window, window)))
            depth_psfs.append(spectrum.abs().square() / energy)
        colours.append(box_sum(torch.stack(depth_psfs), q))
    return torch.stack(colours, dim=1)


@torch.no_grad()
def image_centroid(
    sag: Sag,
    depths_m: Tensor,
    system: OpticalSystem,
    *,
    field_rad: tuple[float, float] = (0.0, 0.0),
) -> tuple[float, float]:
    """Centroid (x, y) of the green light from the image point [m], mean over depths.

    The centroid of |U|^2 is the mean slope of the phase over the pupil, d phi / d s / k.
    """
    check_lens(torch.zeros(1), depths_m)
    image, green = _image_point(field_rad, system), 1
    wavelength = system.wavelengths_m[green]
    pupil = _pupil(system, wavelength, image, WINDOWS[0])
    surface, inside = sag.height(pupil.x, pupil.y), pupil.share == 1
    curvature, slopes = _mean_curvature(sag, system), []
    for depth in depths_m.tolist():
        phase = _residual(pupil, surface, depth, system, green, image, curvature)
        both = (inside[:, 1:] & inside[:, :-1], inside[1:] & inside[:-1])
        slopes.append(
            [float(phase.diff(dim=1)[both[0]].mean()), float(phase.diff(dim=0)[both[1]].mean())]
        )
    pitch = float(pupil.s_x[0, 1] - pupil.s_x[0, 0])
    x, y = (torch.tensor(slopes).mean(0) * wavelength / (2 * math.pi * pitch)).tolist()
    return x, y


def _image_point(field_rad: tuple[float, float], system: OpticalSystem) -> tuple[float, float]:
    if not all(abs(angle) < 0.5 for angle in field_rad):
        raise InputError(
            f"Expected field angles below 0.5 rad, found {field_rad}; the thin plate is no model "
            "beyond."
        )
    z = system.sensor_distance_m
    return z * math.tan(field_rad[0]), z * math.tan(field_rad[1])


def _first_window(sag: Sag, system: OpticalSystem) -> int:
    """Smallest window with four samples of the pupil in a feature of the plate."""
    pitch_out = system.sensor_pitch_m / samples_per_pixel(system)
    span = 4 * max(system.wavelengths_m) * system.sensor_distance_m / pitch_out
    for window in WINDOWS:
        if span / sag.feature_m <= window:
            return window
    raise InputError(
        f"Expected a plate with features of at least {1e6 * span / WINDOWS[-1]:.0f} um, found "
        f"{1e6 * sag.feature_m:.0f} um; take a smoother plate or larger sensor pixels."
    )


def _window(
    sag: Sag,
    depths_m: Tensor,
    system: OpticalSystem,
    image: tuple[float, float],
    read_at_m: tuple[float, float],
) -> int:
    """Smallest window whose samples hold the blur about the point where it is read."""
    coarse, worst, curvature = _first_window(sag, system), 0.0, _mean_curvature(sag, system)
    for colour, wavelength in enumerate(system.wavelengths_m):
        pupil = _pupil(system, wavelength, image, coarse)
        surface = sag.height(pupil.x, pupil.y)
        shift = read_at_m[0] * pupil.s_x + read_at_m[1] * pupil.s_y
        for depth in depths_m.tolist():
            phase = _residual(pupil, surface, depth, system, colour, image, curvature)
            worst = max(worst, _fill(phase - 2 * math.pi / wavelength * shift, pupil.share))
    for window in WINDOWS:
        if coarse <= window and worst * coarse <= SAFE_FILL * window:
            return window
    raise InputError(
        f"Expected a blur of at most {SAFE_FILL * WINDOWS[-1]:.0f} samples, found "
        f"{worst * coarse:.0f}; reduce the surface or the depth range."
    )


def widen(psf: Tensor, size: int) -> Tensor:
    """Zeros around a PSF so that it is size wide and its axis stays at pixel size / 2."""
    margin = (size - psf.shape[-1]) // 2
    return torch.nn.functional.pad(psf, (margin,) * 4)
