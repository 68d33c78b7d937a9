"""Where things are: pixels, millimetres and cycles per face.

Convention of the project: *the crop defines the face*. A scene is an aligned crop whose face spans
FACE_SHARE of the frame from ear to ear, and that frame fills the sensor, at every distance. The
real optics do not do that: a 3.78 mm sensor 35.5 mm behind the lens sees 106 mm at 1 m, less than
one face (optics.md finding 8). Distance therefore changes the blur in this project, never the
size of the face; FaceGeometry.matched_distance_m is the one distance where both agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from opticaldr.optics.bands import FACE_WIDTH_M
from opticaldr.optics.system import OpticalSystem
from opticaldr.types import FACE_SHARE, InputError


@dataclass(frozen=True)
class FaceGeometry:
    """Ties pixels to millimetres on the sensor, millimetres on the face and cycles per face."""

    system: OpticalSystem
    face_width_m: float = FACE_WIDTH_M
    face_share: float = FACE_SHARE

    def __post_init__(self) -> None:
        if not 0 < self.face_width_m < math.inf:
            raise InputError(
                f"Expected a face width above 0 m, found {self.face_width_m}; give metres: 0.16."
            )
        if not 0 < self.face_share <= 1:
            raise InputError(
                f"Expected a face that spans 0 to 1 of the frame, found {self.face_share}."
            )

    @property
    def sensor_width_m(self) -> float:
        """Width of the square sensor [m]."""
        return self.system.sensor_pixels * self.system.sensor_pitch_m

    @property
    def face_pixels(self) -> float:
        """Width of a face on the sensor [px]."""
        return self.face_share * self.system.sensor_pixels

    @property
    def face_on_sensor_m(self) -> float:
        """Width of a face on the sensor [m]."""
        return self.face_share * self.sensor_width_m

    @property
    def matched_distance_m(self) -> float:
        """Distance at which the real optics image a face this large [m]."""
        return self.face_width_m * self.system.sensor_distance_m / self.face_on_sensor_m

    @property
    def field_angle_rad(self) -> float:
        """Full field across the sensor [rad]."""
        return 2 * math.atan(self.sensor_width_m / 2 / self.system.sensor_distance_m)

    def field_width_m(self, distance_m: float) -> float:
        """Width that the real sensor sees at a distance [m]."""
        return self.sensor_width_m * distance_m / self.system.sensor_distance_m

    def per_face(self, cycles_per_m: float | Tensor) -> float | Tensor:
        """Cycles per face of a spatial frequency on the sensor [1/m]."""
        return cycles_per_m * self.face_on_sensor_m
