"""What a certificate takes for granted, in sentences for the card (privacy.md 4.8)."""

from __future__ import annotations

import math
from typing import Any

from opticaldr.optics import bands
from opticaldr.privacy.cameras import CameraUnderAttack
from opticaldr.privacy.certificates import aperture_for_band
from opticaldr.privacy.certificates_simulator import RecordLaw

DISTANCES_M = (0.33, 1.0, 2.0)
BLUEST_M = 460e-9
"""Shortest wavelength of the camera, which passes the finest detail."""


def noise_facts(camera: CameraUnderAttack, law: RecordLaw, measured: bool) -> dict[str, Any]:
    well = camera.noise.full_well_e
    return {
        "read_noise": law.read_noise,
        "kind": "lower 95 % limit of a measurement"
        if measured
        else "exact: the law of a simulation",
        "full_well_e": well if math.isfinite(well) else None,
        "shot_noise": "Gaussian, variance level / full_well_e"
        if math.isfinite(well)
        else "none: the sensor is simulated without it",
    }


def hard_band_limit(aperture_m: float | None) -> dict[str, Any]:
    """Diffraction: the only zero of the transfer function that neither video nor priors fill."""
    needed = {
        f"{z:g}": aperture_for_band(bands.IDENTITY_BAND[0], z, wavelength_m=BLUEST_M)
        for z in DISTANCES_M
    }
    facts = {"aperture_m": aperture_m, "aperture_below_identity_band_m": needed}
    if aperture_m is None:
        statement = "The clear aperture was not given: no band limit by diffraction is claimed."
        return {**facts, "cycles_per_face": None, "statement": statement}
    passed = {
        key: aperture_m / aperture_for_band(1.0, float(key), wavelength_m=BLUEST_M)
        for key in needed
    }
    statement = (
        f"An aperture of {1e3 * aperture_m:.3g} mm passes up to {passed['1']:.3g} cycles per face "
        f"at 1 m; below the identity band it would have to be {1e6 * needed['1']:.2g} um."
    )
    return {**facts, "cycles_per_face": passed, "statement": statement}


def assumptions(
    camera: CameraUnderAttack, law: RecordLaw, measured: bool, frames: int
) -> list[str]:
    """What must hold for the bounds to hold (privacy.md 4.8)."""
    kind = "at least (lower 95 % limit)" if measured else "exactly (simulated)"
    place = (
        "the distance of the face plays no part"
        if camera.depth_m is None
        else f"the face is {camera.depth_m:g} m away; other distances may be sharper"
    )
    shot = (
        "there is no shot noise"
        if math.isinf(law.full_well_e)
        else "shot noise is Gaussian with variance level / full well"
    )
    return [
        f"The read noise is {kind} {law.read_noise:g} of full scale per sample and frame, white "
        f"and independent from frame to frame; {shot}. Fixed patterns do not count as noise.",
        "Noise enters before anything else that can be tapped: frames are counted at the sensor, "
        f"at most {frames} of them, and a still face; movement can only tell more.",
        f"The optics are the given linear map, the same over the frame; {place}.",
        "Scenes are aligned face crops like those of the test; hair, clothes and room outside the "
        "crop are not covered.",
        "Nothing is said about voice, metadata, gait, or what the score of the network reveals.",
        "People with the same thumbnail are protected from each other, not from the thumbnail: how "
        "well thumbnails identify is measured, not proved.",
        "Delta is an average over test scenes with its upper 95 % limit over people; a single "
        "person may lie above it. Every scene of the test counts as mated and as non-mated.",
        "Leaked bits rest on the measured variance of other people's faces, upper 95 % limits, and "
        "count lighting and hair as if they were identity.",
    ]
