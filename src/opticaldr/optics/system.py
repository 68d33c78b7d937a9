"""The fixed geometry of lens and sensor, and the thin-lens arithmetic that follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from opticaldr.optics.surfaces import Surface, ZernikeSurface
from opticaldr.optics.zernike import Normalisation
from opticaldr.types import InputError


@dataclass(frozen=True)
class OpticalSystem:
    """Everything about the camera that is not learned. SI units.

    grid: samples across the wavefront [1]. pitch_m: wavefront sample pitch [m].
    sensor_distance_m: lens to sensor, z [m]. wavelengths_m, indices: R, G, B [m], [1].
    sensor_pixels: S, pixels across the square sensor [1]; the sensor is as wide as the wavefront.
    stop_diameter_m: clear aperture [m]; 0 = the widest, the grid less one sample on each side.
    obstruction_diameter_m: opaque disc in the middle of the aperture [m] (annular pupil).
    surface: shape of the plate; None = Noll terms, as many as there are parameters.
    Constants of the paper: supplement A.1 (Pan et al., CVPR 2024).
    """

    grid: int = 1024
    pitch_m: float = 3.69e-6
    sensor_distance_m: float = 35.5e-3
    wavelengths_m: tuple[float, float, float] = (640e-9, 550e-9, 460e-9)
    indices: tuple[float, float, float] = (1.488, 1.493, 1.499)
    sensor_pixels: int = 256
    normalisation: Normalisation = "noll"
    stop_diameter_m: float = 0.0
    obstruction_diameter_m: float = 0.0
    surface: Surface | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.grid, int) or self.grid < 4 or self.grid % 2:
            raise InputError(
                "Expected one even number of samples, 4 or more, for both sides of a square grid, "
                f"found {self.grid}; give for example 1024."
            )
        lengths = {
            "pitch_m": self.pitch_m,
            "sensor_distance_m": self.sensor_distance_m,
            "shortest of wavelengths_m": min(self.wavelengths_m),
        }
        for name, value in lengths.items():
            if not 0 < value < math.inf:
                raise InputError(f"Expected {name} above 0 m, found {value}; give it in metres.")
        widest = (self.grid - 2) * self.pitch_m
        if not 0 <= self.stop_diameter_m <= widest * (1 + 1e-9):
            raise InputError(
                f"Expected a stop_diameter_m of at most {widest:.3e} m, the width of the grid (or 0 "
                f"for that width), found {self.stop_diameter_m}; enlarge grid or pitch_m."
            )
        if not 0 <= self.obstruction_diameter_m < 2 * self.aperture_radius_m:
            raise InputError(
                "Expected an obstruction_diameter_m from 0 to below the stop's "
                f"{2 * self.aperture_radius_m:.3e} m, found {self.obstruction_diameter_m}."
            )

    def shape(self, count: int) -> Surface:
        """The surface of a plate with this many parameters."""
        if self.surface is None:
            return ZernikeSurface(count, self.normalisation_radius_m, self.normalisation)
        return self.surface

    @property
    def aperture_radius_m(self) -> float:
        """Radius of the clear aperture [m]: one sample less than the half grid, as in the lineage."""
        return self.stop_diameter_m / 2 or (self.grid / 2 - 1) * self.pitch_m

    @property
    def normalisation_radius_m(self) -> float:
        """Radius at which rho = 1 [m]: the disc inscribed in the grid."""
        return (self.grid - 1) / 2 * self.pitch_m

    @property
    def sensor_pitch_m(self) -> float:
        """Width of a sensor pixel [m]."""
        return self.grid * self.pitch_m / self.sensor_pixels


def focus_curvature_per_m(system: OpticalSystem, depth_m: float, *, colour: int = 1) -> float:
    """Curvature of h = c r^2 / 2 that focuses a point at depth_m [m]: c = -(1/z + 1/d) / (n-1)."""
    if not depth_m > 0:
        raise InputError(
            f"Expected a depth above 0 m, found {depth_m}; give the distance from lens to face."
        )
    vergence = 1 / system.sensor_distance_m + 1 / depth_m
    return -vergence / (system.indices[colour] - 1)


def focus_coefficient_um(system: OpticalSystem, depth_m: float, *, colour: int = 1) -> float:
    """Z4 coefficient [um] that focuses a point at depth_m [m] for a colour (0, 1, 2 = R, G, B).

    Thin lens: 1/f = 1/z + 1/d and 1/f = -2 (n-1) a4 g / R^2 with h = a4 sqrt(3) (2 rho^2 - 1),
    so a4 = -(1/z + 1/d) R^2 / (4 sqrt(3) (n-1)); without the sqrt(3) for "peak" normalisation.
    """
    zernikes = ZernikeSurface(4, system.normalisation_radius_m, system.normalisation)
    return zernikes.like_parabola(focus_curvature_per_m(system, depth_m, colour=colour))[3]


def focused_depth_m(system: OpticalSystem, a4_um: float, *, colour: int = 1) -> float:
    """Distance [m] that a pure-defocus lens has in focus: 1/d = 1/f - 1/z, the inverse of the above.

    InputError where the image of every real point lies behind the sensor (1/f <= 1/z).
    """
    infinity = focus_coefficient_um(system, math.inf, colour=colour)
    vergence = (a4_um / infinity - 1) / system.sensor_distance_m
    if not vergence > 0:
        raise InputError(
            f"Expected a Z4 below {infinity:.2f} um, which focuses at infinity, found "
            f"{a4_um:.2f} um: no distance is in focus; bend the surface more."
        )
    return 1 / vergence


def blur_diameter_m(
    system: OpticalSystem, a4_um: float, depth_m: float, *, colour: int = 1
) -> float:
    """Geometric blur diameter [m] on the sensor of a pure-defocus lens: 2 R z |V - 1/z - 1/d|."""
    focus = focus_coefficient_um(system, depth_m, colour=colour)
    vergence = 1 / system.sensor_distance_m + 1 / depth_m
    defocus = vergence * (a4_um / focus - 1)
    return 2 * system.aperture_radius_m * system.sensor_distance_m * abs(defocus)
