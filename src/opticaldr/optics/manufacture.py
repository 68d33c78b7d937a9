"""Cameras as they come out of a workshop: sizes of errors, draws of them, the camera that results.

A draw changes everything at once: the surface (noise correlated over a length, and scale), its
place (decentre, tilt), the glass (index), the distances to sensor and face, and the wavelengths.
The plate is decentred under a stop that stays; a tilt is the field angle that it amounts to.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from opticaldr.optics.off_axis import Sag, image_centroid, psf_off_axis
from opticaldr.optics.system import OpticalSystem
from opticaldr.types import InputError, Psf

MAX_KNOTS = 2048
"""Across the plate, for sag noise."""


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


def check_sizes(errors: Errors, system: OpticalSystem) -> None:
    """InputError for an error as large as what it changes: no camera is left then."""
    whole = {
        "sag_scale": 1.0,
        "tilt_rad": 0.5,
        "decentre_m": system.aperture_radius_m,
        "index": min(system.indices) - 1,
        "sensor_m": system.sensor_distance_m,
        "depth": 1.0,
        "wavelength_m": min(system.wavelengths_m),
    }
    for name, limit in whole.items():
        if getattr(errors, name) >= limit:
            raise InputError(
                f"Expected an error {name} below {limit:.3g}, beyond which no camera is left, found "
                f"{getattr(errors, name):.3g}; give the size of an error."
            )


@dataclass(frozen=True)
class Draw:
    """One camera as built, relative to the drawing; units as in Errors.

    noise: seed of the map of height noise; None: none.
    """

    sag_scale: float = 0.0
    tilt_x_rad: float = 0.0
    tilt_y_rad: float = 0.0
    decentre_x_m: float = 0.0
    decentre_y_m: float = 0.0
    index: float = 0.0
    sensor_m: float = 0.0
    depth: float = 0.0
    wavelength_m: float = 0.0
    noise: int | None = None


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


def extremes(errors: Errors) -> dict[str, tuple[Draw, Draw]]:
    """Both ends of each error that is not zero, alone; two maps for the noise of the surface.

    Tilt and decentre go along both axes at once.
    """
    fields = {
        "sag_scale": ("sag_scale",),
        "tilt_rad": ("tilt_x_rad", "tilt_y_rad"),
        "decentre_m": ("decentre_x_m", "decentre_y_m"),
        **{name: (name,) for name in ("index", "sensor_m", "depth", "wavelength_m")},
    }
    found = {"sag_m": (Draw(noise=0), Draw(noise=1))}
    for name, changed in fields.items():
        size = getattr(errors, name)
        found[name] = tuple(Draw(**dict.fromkeys(changed, sign * size)) for sign in (1, -1))
    return {name: ends for name, ends in found.items() if getattr(errors, name) > 0}


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


@dataclass(frozen=True)
class Camera:
    """A plate in its mount; the tilt is the field angle that it amounts to (psf_off_axis)."""

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


def built(sag: Sag, depths_m: Tensor, system: OpticalSystem, errors: Errors, one: Draw) -> Camera:
    """The camera of one draw."""
    noise = Sag(lambda x, y: torch.zeros_like(x), math.inf)
    if one.noise is not None and errors.sag_m:
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
