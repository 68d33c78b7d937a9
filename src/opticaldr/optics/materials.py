"""Refractive indices of the plastics that a plate is made of."""

from __future__ import annotations

import math

from opticaldr.types import InputError

RANGE_M = (0.4368e-6, 1.052e-6)
"""Wavelengths at which the indices below were measured [m]."""
SELLMEIER = {
    "PMMA": (1.1819, 0.011313),
    "polycarbonate": (1.4182, 0.021304),
    "polystyrene": (1.4435, 0.020216),
}
"""A [1], B [um^2] of n^2 = 1 + A L^2 / (L^2 - B) at L um, 20 degrees C.

Sultanova, Kasarova, Nikolov, Acta Physica Polonica A 116, 585 (2009); refractiveindex.info (CC0).
"""


def refractive_index(material: str, wavelength_m: float) -> float:
    """Index [1] of a plastic at a wavelength in air [m]; InputError outside the measured range."""
    if material not in SELLMEIER:
        raise InputError(f"Expected one of {', '.join(SELLMEIER)}, found material '{material}'.")
    if not RANGE_M[0] <= wavelength_m <= RANGE_M[1]:
        raise InputError(
            f"Expected a wavelength between {1e9 * RANGE_M[0]:.0f} and {1e9 * RANGE_M[1]:.0f} nm, "
            f"where the index of {material} was measured, found {1e9 * wavelength_m:.0f} nm; "
            "give the index yourself with lens.indices and lens.material = 'given'."
        )
    strength, pole = SELLMEIER[material]
    square = (1e6 * wavelength_m) ** 2
    return math.sqrt(1 + strength * square / (square - pole))
