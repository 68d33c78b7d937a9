"""`lens tolerance`: Monte Carlo of what a workshop and a mount get wrong, and what it does.

A draw changes everything at once: the surface (noise correlated over a length, and scale), its
place (decentre, tilt), the glass (index), the distances to sensor and face, and the wavelengths.
The plate is decentred under a stop that stays; a tilt is the field angle that it amounts to. The
true camera is compared with the one on the drawing: k*, Strehl ratio, and misplaced light after
the image has been shifted back (a shift of the picture is no harm).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from opticaldr.optics.analysis import (
    face_frequencies,
    fine_system,
    recoverable_band,
    signal_to_noise,
    strehl,
)
from opticaldr.optics.geometry import IDENTITY_BAND, FaceGeometry
from opticaldr.optics.off_axis import Sag, image_centroid, psf_off_axis, widen
from opticaldr.optics.system import OpticalSystem
from opticaldr.types import InputError, Psf

OnProgress = Callable[[str, int, int], None]
Task = Callable[[Psf], dict[str, float]]
"""Effect of a changed camera on a task: PSFs at the nominal depths -> named numbers."""
MEANINGFUL_STREHL = 0.01
"""Below this the peak of a PSF is a speckle."""
MAX_KNOTS = 2048
"""Across the plate, for sag noise."""
QUANTILES = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)


@dataclass(frozen=True)
class Errors:
    """Sizes of the errors; each is drawn uniformly from [-size, size], zero means exact.

    sag_m: height noise on knots sag_length_m apart, smooth between them [m].
    sag_scale: of the whole surface [1]. tilt_rad: of the plate about x and y [rad].
    decentre_m: of the plate in x and y [m]. index: of the glass [1].
    sensor_m: lens to sensor [m]. depth: of the face, share of its distance [1].
    wavelength_m: of the three colours, together [m].
    Defaults: sag noise from Hinojosa et al. (+-20 nm, optics.md 4); the others are what a diamond
    turning shop and a screwed mount are usually asked for, and are ours.
    """

    sag_m: float = 20e-9
    sag_length_m: float = 0.2e-3
    sag_scale: float = 1e-3
    tilt_rad: float = math.radians(0.25)
    decentre_m: float = 25e-6
    index: float = 1e-3
    sensor_m: float = 50e-6
    depth: float = 0.05
    wavelength_m: float = 5e-9

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value < math.inf:
                raise InputError(f"Expected {name} of 0 or more, found {value}; give its size.")
        if self.sag_length_m == 0 and self.sag_m > 0:
            raise InputError(
                "Expected a sag_length_m above 0 for sag noise, found 0; noise without a length is "
                "no surface."
            )


@dataclass(frozen=True)
class Draw:
    """One camera as built, relative to the drawing; units as in Errors. noise: seed of the map."""

    sag_scale: float = 0.0
    tilt_x_rad: float = 0.0
    tilt_y_rad: float = 0.0
    decentre_x_m: float = 0.0
    decentre_y_m: float = 0.0
    index: float = 0.0
    sensor_m: float = 0.0
    depth: float = 0.0
    wavelength_m: float = 0.0
    noise: int = 0


def draw(errors: Errors, *, generator: torch.Generator) -> Draw:
    """One set of errors; the same generator state gives the same set."""
    uniform = iter((2 * torch.rand(9, generator=generator, dtype=torch.float64) - 1).tolist())
    return Draw(
        sag_scale=errors.sag_scale * next(uniform),
        tilt_x_rad=errors.tilt_rad * next(uniform),
        tilt_y_rad=errors.tilt_rad * next(uniform),
        decentre_x_m=errors.decentre_m * next(uniform),
        decentre_y_m=errors.decentre_m * next(uniform),
        index=errors.index * next(uniform),
        sensor_m=errors.sensor_m * next(uniform),
        depth=errors.depth * next(uniform),
        wavelength_m=errors.wavelength_m * next(uniform),
        noise=int(torch.randint(2**31, (1,), generator=generator)),
    )


def sag_noise(errors: Errors, radius_m: float, *, generator: torch.Generator) -> Sag:
    """Smooth random height over a disc of radius_m [m], within +-sag_m.

    Uniform noise on knots sag_length_m apart, joined bicubically.
    """
    knots = 2 * math.ceil(1.1 * radius_m / errors.sag_length_m) + 5
    if knots > MAX_KNOTS:
        raise InputError(
            f"Expected a sag_length_m of at least {2.2 * radius_m / MAX_KNOTS:.1e} m, found "
            f"{errors.sag_length_m:.1e}; finer noise only scatters, treat it as lost light."
        )
    values = 2 * torch.rand(knots, knots, generator=generator, dtype=torch.float64) - 1
    half = (knots - 1) / 2 * errors.sag_length_m

    def height(x: Tensor, y: Tensor) -> Tensor:
        smooth = torch.nn.functional.grid_sample(
            values[None, None],
            torch.stack([x, y], -1)[None] / half,
            mode="bicubic",
            padding_mode="reflection",
            align_corners=True,
        )[0, 0]
        return errors.sag_m * smooth.clamp(-1, 1)  # bicubic curves may overshoot their knots

    return Sag(height, errors.sag_length_m)


def built(sag: Sag, depths_m: Tensor, system: OpticalSystem, errors: Errors, one: Draw) -> Camera:
    """The camera of one draw."""
    noise = Sag(lambda x, y: torch.zeros_like(x), math.inf)
    if errors.sag_m:
        seed = torch.Generator().manual_seed(one.noise)
        noise = sag_noise(errors, system.aperture_radius_m, generator=seed)

    def height(x: Tensor, y: Tensor) -> Tensor:
        x, y = x - one.decentre_x_m, y - one.decentre_y_m
        return (1 + one.sag_scale) * sag.height(x, y) + noise.height(x, y)

    return Camera(
        sag=Sag(height, min(sag.feature_m, noise.feature_m)),
        depths_m=depths_m * (1 + one.depth),
        system=replace(
            system,
            indices=tuple(n + one.index for n in system.indices),
            sensor_distance_m=system.sensor_distance_m + one.sensor_m,
            wavelengths_m=tuple(w + one.wavelength_m for w in system.wavelengths_m),
        ),
        tilt_rad=(one.tilt_x_rad, one.tilt_y_rad),
    )


@dataclass(frozen=True)
class Camera:
    """A plate in its mount; see optics.geometry.psf_off_axis."""

    sag: Sag
    depths_m: Tensor
    system: OpticalSystem
    tilt_rad: tuple[float, float]

    def centroid(self) -> tuple[float, float]:
        """Where the image of a point falls [m]."""
        return image_centroid(self.sag, self.depths_m, self.system, field_rad=self.tilt_rad)

    def psf(self, system: OpticalSystem | None = None) -> Psf:
        """PSFs about their own centroid, on another sensor if one is given."""
        return psf_off_axis(
            self.sag,
            self.depths_m,
            system or self.system,
            field_rad=self.tilt_rad,
            read_at_m=self.centroid(),
        )


class _Measure:
    """Effects of one camera against the one on the drawing, as a dictionary of numbers."""

    def __init__(self, drawn: Camera, *, noise: float, frames: int, task: Task | None) -> None:
        self.drawn, self.noise, self.frames, self.task = drawn, noise, frames, task
        self.reference, self.centroid = drawn.psf(), drawn.centroid()
        self.sharp = self._strehl(drawn) >= MEANINGFUL_STREHL

    def __call__(self, camera: Camera) -> dict[str, float]:
        psf = camera.psf()
        geometry = FaceGeometry(self.drawn.system)
        cycles = face_frequencies(geometry)
        snr = signal_to_noise(psf, geometry, noise=self.noise, frames=self.frames).sum(1)
        band = recoverable_band(snr, cycles)
        identity = (cycles >= IDENTITY_BAND[0]) & (cycles <= IDENTITY_BAND[1])
        size = max(psf.shape[-1], self.reference.shape[-1])
        wrong = 0.5 * (widen(psf, size) - widen(self.reference, size)).abs().sum((-2, -1))
        shift = math.dist(camera.centroid(), self.centroid)
        effect = {
            "band": float(band.max()),
            "band_snr_db": float(snr[:, identity].clamp_min(1e-12).log10().mean(1).max()) * 10,
            "misplaced": float(wrong.mean(0).max()),
            "shift_px": shift / self.drawn.system.sensor_pitch_m,
        }
        if self.sharp:
            effect["strehl"] = self._strehl(camera)
        return effect | (self.task(psf) if self.task else {})

    def _strehl(self, camera: Camera) -> float:
        """Green, at the best depth; 0 for a blur too wide for the fine samples."""
        fine = fine_system(camera.system)
        try:
            return float(strehl(camera.psf(fine), fine)[:, 1].max())
        except InputError:
            return 0.0


def run_tolerance(
    sag: Sag,
    depths_m: Tensor,
    system: OpticalSystem,
    *,
    errors: Errors,
    draws: int,
    seed: int,
    noise: float,
    frames: int = 1,
    task: Task | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Draws cameras and measures each; the result is ready for JSON.

    Args:
        sag: the surface on the drawing.
        depths_m: distances of the face [m].
        system: the camera on the drawing.
        errors: their sizes.
        draws: number of cameras.
        seed: of everything that is drawn.
        noise: of the sensor, per sample and frame [full scale], for k*.
        frames: of the attacker's video, for k*.
        task: measured on every camera, too.
        on_progress: called with ("building cameras", done, in all).

    Returns: the settings; "nominal": effects of the camera on the drawing; "draws": errors and
    effects of each camera; "summary": per effect the nominal value, mean, 5th, 50th and 95th
    percentile. Effects: band, k* [c/face], all colours together, at the sharpest depth;
    band_snr_db, mean SNR in the identity band [dB], likewise; strehl, green, at the best depth
    (only for a lens that is near focus); misplaced, share of light in the wrong place, mean over
    depths, worst colour; shift_px, how far the image moved [sensor px]; then those of the task.
    """
    if draws < 1:
        raise InputError(f"Expected at least 1 draw, found {draws}; give --draws 100.")
    generator = torch.Generator().manual_seed(seed)
    drawn = built(sag, depths_m, system, replace(errors, sag_m=0.0), Draw())
    measure = _Measure(drawn, noise=noise, frames=frames, task=task)
    nominal = measure(drawn)
    rows = []
    for number in range(draws):
        one = draw(errors, generator=generator)
        effect = measure(built(sag, depths_m, system, errors, one))
        rows.append({"errors": asdict(one), "effects": effect})
        if on_progress:
            on_progress("building cameras", number + 1, draws)
    return {
        "errors": asdict(errors),
        "seed": seed,
        "depths_m": depths_m.tolist(),
        "noise": noise,
        "frames": frames,
        "nominal": nominal,
        "draws": rows,
        "summary": {
            name: _spread([row["effects"][name] for row in rows], value)
            for name, value in nominal.items()
        },
    }


def _spread(values: list[float], nominal: float) -> dict[str, float]:
    low, middle, high = torch.tensor(values).double().quantile(QUANTILES).tolist()
    mean = sum(values) / len(values)
    return {"nominal": nominal, "mean": mean, "p5": low, "p50": middle, "p95": high}
