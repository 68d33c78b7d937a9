"""The fixed geometry of lens and sensor, and the thin-lens arithmetic that follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from opticaldr.optics.zernike import Normalisation


@dataclass(frozen=True)
class OpticalSystem:
    """Everything about the camera that is not learned. SI units.

    grid: samples across the wavefront [1]. pitch_m: wavefront sample pitch [m].
    sensor_distance_m: lens to sensor, z [m]. wavelengths_m, indices: R, G, B [m], [1].
    sensor_pixels: S, pixels across the square sensor [1]; the sensor is as wide as the wavefront.
    Constants of the paper: supplement A.1 (Pan et al., CVPR 2024).
    """

    grid: int = 1024
    pitch_m: float = 3.69e-6
    sensor_distance_m: float = 35.5e-3
    wavelengths_m: tuple[float, float, float] = (640e-9, 550e-9, 460e-9)
    indices: tuple[float, float, float] = (1.488, 1.493, 1.499)
    sensor_pixels: int = 256
    normalisation: Normalisation = "noll"

    @property
    def aperture_radius_m(self) -> float:
        """Radius of the clear aperture [m]: one sample less than the half grid, as in the lineage."""
        return (self.grid / 2 - 1) * self.pitch_m

    @property
    def normalisation_radius_m(self) -> float:
        """Radius at which rho = 1 [m]: the disc inscribed in the grid."""
        return (self.grid - 1) / 2 * self.pitch_m

    @property
    def sensor_pitch_m(self) -> float:
        """Width of a sensor pixel [m]."""
        return self.grid * self.pitch_m / self.sensor_pixels


def focus_coefficient_um(system: OpticalSystem, depth_m: float, *, colour: int = 1) -> float:
    """Z4 coefficient [um] that focuses a point at depth_m [m] for a colour (0, 1, 2 = R, G, B).

    Thin lens: 1/f = 1/z + 1/d and 1/f = -2 (n-1) a4 g / R^2 with h = a4 sqrt(3) (2 rho^2 - 1),
    so a4 = -(1/z + 1/d) R^2 / (4 sqrt(3) (n-1)); without the sqrt(3) for "peak" normalisation.
    """
    norm = math.sqrt(3) if system.normalisation == "noll" else 1.0
    vergence = 1 / system.sensor_distance_m + 1 / depth_m
    radius = system.normalisation_radius_m
    return -1e6 * vergence * radius**2 / (4 * norm * (system.indices[colour] - 1))


def blur_diameter_m(
    system: OpticalSystem, a4_um: float, depth_m: float, *, colour: int = 1
) -> float:
    """Geometric blur diameter [m] on the sensor of a pure-defocus lens: 2 R z |V - 1/z - 1/d|."""
    focus = focus_coefficient_um(system, depth_m, colour=colour)
    vergence = 1 / system.sensor_distance_m + 1 / depth_m
    defocus = vergence * (a4_um / focus - 1)
    return 2 * system.aperture_radius_m * system.sensor_distance_m * abs(defocus)
