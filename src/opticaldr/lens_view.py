"""What `lens show` says about one lens, as numbers; lens_page.py draws them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from opticaldr.camera import Camera
from opticaldr.optics import analysis, bands, propagation
from opticaldr.optics.bands import IDENTITY_BAND
from opticaldr.optics.field import along_diagonal
from opticaldr.optics.geometry import FaceGeometry
from opticaldr.optics.off_axis import Sag
from opticaldr.optics.system import OpticalSystem
from opticaldr.optics.tolerance import FRAMES
from opticaldr.types import InputError, Psf

NEAREST_M = 0.05
"""A lens that is out of focus may be in focus much closer: the sweep starts here (privacy.md 4.8)."""
COLOURS = ("red", "green", "blue")
MTF_SAMPLES = 1024
"""Gives a modulation every 1.25 cycles per face with the default optics."""
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Field:
    """How far the PSF on the axis speaks for the rest of the picture, at one distance.

    depth: [m]. angles: from the axis to the corner of the sensor [rad] (f,). misplaced: share of
    the light that lands elsewhere than the PSF on the axis says (f, 3). bands: k* of one frame
    [c/face] with the PSF of each place (f,).
    """

    depth: float
    angles: Tensor
    misplaced: Tensor
    bands: list[int]


@dataclass(frozen=True)
class View:
    """Everything that is measured of a lens.

    depths: k distances [m]. psf: (k, 3, m, m) in sensor pixels. strehl: (k, 3).
    mtf: frequency [c/face] (f,), modulation (k, 3, f), without the pixels.
    energy: radius [m] (r,), encircled share (k, 3, r).
    through_focus: 1 / distance [1/m] (v,), Strehl ratio on the axis (v, 3).
    snr: per number of frames at the sharpest depth, rings [c/face] (r,) and median SNR (r,), all
    colours together. bands: k* [c/face] per number of frames, one per depth.
    sweep: (1 / distance [1/m], k* per entry of FRAMES or None where the blur is too wide).
    field: off the axis, at the middle distance.
    """

    depths: tuple[float, ...]
    psf: Psf
    strehl: Tensor
    mtf: tuple[Tensor, Tensor]
    energy: tuple[Tensor, Tensor]
    through_focus: tuple[Tensor, Tensor]
    snr: dict[int, tuple[Tensor, Tensor]]
    bands: dict[int, list[int]]
    sweep: list[tuple[float, list[int] | None]]
    field: Field

    @property
    def mtf_band(self) -> dict[float, Tensor]:
        """Modulation (k, 3) at the ends of the identity band [c/face]."""
        frequency, values = self.mtf
        found = {}
        for edge in IDENTITY_BAND:
            above = int(torch.searchsorted(frequency, edge))
            left, right = frequency[above - 1], frequency[above]
            share = (edge - left) / (right - left)
            found[edge] = torch.lerp(values[..., above - 1], values[..., above], share)
        return found

    @property
    def limit(self) -> int:
        """Largest k* that the sensor's pixels leave [c/face]."""
        return int(self.snr[1][0][-1])

    @property
    def best_distance(self) -> tuple[float, list[int]]:
        """Distance [m] of the sharpest picture in the sweep, and its k* per entry of FRAMES."""
        seen = [(bands, vergence) for vergence, bands in self.sweep if bands]
        bands, vergence = max(seen)
        return (1 / vergence if vergence else math.inf), bands


@torch.no_grad()
def view_lens(camera: Camera, *, on_progress: OnProgress | None = None) -> View:
    """Measures a camera with the direct engine, whatever engine it trains with."""
    system, parameters = camera.lens.system, camera.lens.coefficients.detach().cpu()
    near, far = camera.lens.config.depth_range_m
    depths = tuple(sorted({near, math.sqrt(near * far), far}))
    noise = camera.sensor.config.read_noise_test
    geometry, tick = FaceGeometry(system), _Ticker(on_progress, total=5)

    psf = propagation.psf_direct(parameters, torch.tensor(depths), system)
    snr = _snr(psf, geometry, noise)
    cycles = bands.face_frequencies(system.sensor_pixels, geometry.face_pixels)
    recovered = {n: bands.recoverable_band(n * snr, cycles) for n in FRAMES}
    sharpest = int(recovered[FRAMES[-1]].argmax())
    tick()
    fine_psf, fine = _fine_psf(parameters, torch.tensor(depths), system)
    frequency, transfer = analysis.mtf(fine_psf, pitch_m=fine.sensor_pitch_m, size=MTF_SAMPLES)
    widest = fine_psf.shape[-1] * fine.sensor_pitch_m / 2
    radii = torch.logspace(math.log10(1e-6), math.log10(widest), 40, dtype=torch.float64)
    energy = analysis.encircled_energy(fine_psf, radii, pitch_m=fine.sensor_pitch_m)
    tick()
    vergence = torch.linspace(0, 1 / near + 1, 81)
    # one sample per pixel: no centring tilt in the phase (propagation.pupil_grid)
    samples = propagation.samples_per_pixel(system) * system.sensor_pixels
    unpooled = replace(system, sensor_pixels=samples)
    focus = torch.cat([_axial(parameters, _distance(v), unpooled) for v in vergence.tolist()])
    tick()
    sweep = [
        (v, bands_at(parameters, _distance(v), geometry, noise))
        for v in torch.linspace(0, 1 / NEAREST_M, 21).tolist()
    ]
    tick()
    field = _field(parameters, depths[len(depths) // 2], geometry, noise)
    tick()
    return View(
        depths=depths,
        psf=psf,
        strehl=analysis.strehl(fine_psf, fine),
        mtf=(geometry.per_face(frequency), transfer),
        energy=(radii, energy),
        through_focus=(vergence, focus),
        snr={n: bands.ring_snr(n * snr[sharpest], cycles) for n in FRAMES},
        bands={n: found.tolist() for n, found in recovered.items()},
        sweep=sweep,
        field=field,
    )


def _distance(vergence: float) -> float:
    """Distance [m] of a vergence [1/m]; 0 is taken as 10 km."""
    return 1 / max(vergence, 1e-4)


class _Ticker:
    def __init__(self, on_progress: OnProgress | None, *, total: int) -> None:
        self.on_progress, self.total, self.done = on_progress, total, 0

    def __call__(self) -> None:
        self.done += 1
        if self.on_progress:
            self.on_progress("measuring the lens", self.done, self.total)


def _fine_psf(
    parameters: Tensor, depths: Tensor, system: OpticalSystem
) -> tuple[Psf, OpticalSystem]:
    """PSFs with every frequency of the pupil; half as fine for a blur so wide that none is left."""
    fine = analysis.fine_system(system)
    try:
        window = propagation.choose_window(parameters, depths, fine, largest=1024)
    except InputError:
        fine = replace(fine, sensor_pixels=fine.sensor_pixels // 2)
        window = propagation.choose_window(parameters, depths, fine)
    return propagation.psf_direct(parameters, depths, fine, window=window), fine


def _axial(parameters: Tensor, depth_m: float, system: OpticalSystem) -> Tensor:
    """Strehl ratio on the axis for a point at depth_m [m], (1, 3)."""
    depth = torch.tensor([depth_m])
    coarse = propagation.WINDOWS[0]
    blur = coarse * float(propagation.window_fill(parameters, depth, system, window=coarse))
    window = next((w for w in propagation.WINDOWS if blur < w), None)
    if window is None:
        return torch.zeros(1, 3)
    grid = propagation.pupil_grid(
        system, parameters.numel(), window, parameters.device, parameters.dtype
    )
    phases = [propagation.residual_phase(parameters, depth, grid, colour=c) for c in range(3)]
    return analysis.axial_strehl(grid.amplitude.abs(), torch.stack(phases, dim=1))


def bands_at(
    parameters: Tensor, depth_m: float, geometry: FaceGeometry, noise: float
) -> list[int] | None:
    """k* of each entry of FRAMES at a distance, None where no window holds the blur."""
    try:
        psf = propagation.psf_direct(parameters, torch.tensor([depth_m]), geometry.system)
    except InputError:
        return None
    snr = _snr(psf, geometry, noise)
    cycles = bands.face_frequencies(geometry.system.sensor_pixels, geometry.face_pixels)
    return [int(bands.recoverable_band(n * snr, cycles)) for n in FRAMES]


def _field(parameters: Tensor, depth_m: float, geometry: FaceGeometry, noise: float) -> Field:
    system = geometry.system
    angles, psfs = along_diagonal(Sag.of(parameters, system), torch.tensor([depth_m]), system)
    snr = _snr(psfs[:, 0], geometry, noise)
    cycles = bands.face_frequencies(system.sensor_pixels, geometry.face_pixels)
    return Field(
        depth=depth_m,
        angles=angles,
        misplaced=0.5 * (psfs - psfs[0])[:, 0].abs().sum((-2, -1)),
        bands=bands.recoverable_band(snr, cycles).tolist(),
    )


def _snr(psf: Psf, geometry: FaceGeometry, noise: float) -> Tensor:
    """Of one frame, all colours together, (k, s, s)."""
    power = bands.face_power(geometry.system.sensor_pixels, geometry.face_pixels)
    return bands.signal_to_noise(psf, power, noise=noise).sum(1)


def to_json(view: View, camera: Camera) -> dict[str, Any]:
    """The numbers of a view that fit in a table."""
    geometry = FaceGeometry(camera.lens.system)
    distance, bands = view.best_distance
    modulation = view.mtf_band
    return {
        "geometry": {
            "sensor_width_mm": 1e3 * geometry.sensor_width_m,
            "face_pixels": geometry.face_pixels,
            "face_on_sensor_mm": 1e3 * geometry.face_on_sensor_m,
            "face_width_mm": 1e3 * geometry.face_width_m,
            "cycles_per_mm_at_1_cycle_per_face": 1e-3 / geometry.face_on_sensor_m,
            "field_degrees": math.degrees(geometry.field_angle_rad),
            "field_at_1_m_mm": 1e3 * geometry.field_width_m(1.0),
            "matched_distance_m": geometry.matched_distance_m,
        },
        "noise": camera.sensor.config.read_noise_test,
        "depths_m": list(view.depths),
        "strehl": view.strehl.tolist(),
        "modulation_at_cycles_per_face": {
            f"{edge:g}": values.tolist() for edge, values in modulation.items()
        },
        "recoverable_band": {str(n): found for n, found in view.bands.items()},
        "field": {
            "depth_m": view.field.depth,
            "angles_deg": view.field.angles.rad2deg().tolist(),
            "misplaced": view.field.misplaced.tolist(),
            "recoverable_band": view.field.bands,
        },
        "sharpest": {
            "distance_m": distance if math.isfinite(distance) else None,
            "recoverable_band": dict(zip(map(str, FRAMES), bands, strict=True)),
        },
    }
