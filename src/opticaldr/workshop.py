"""A camera's lens as a folder of files that a workshop can build from, and plate.json about them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from opticaldr import __version__
from opticaldr.camera import Camera, describe_camera
from opticaldr.media import written_whole
from opticaldr.optics import fabrication, plate_formats
from opticaldr.optics.fabrication import Plate, SagGrid
from opticaldr.optics.materials import SELLMEIER, refractive_index
from opticaldr.optics.system import OpticalSystem
from opticaldr.results import SCHEMA_VERSION, validate, write_json
from opticaldr.types import InputError

FORMATS = ("csv", "npy", "zernike", "grid-sag", "prescription", "stl")
MM, UM = 1e3, 1e6


def export_plate(
    camera: Camera,
    folder: Path,
    *,
    formats: tuple[str, ...] | None = None,
    diameter_m: float | None = None,
    thickness_m: float = 2e-3,
    rim_m: float | None = None,
    step_m: float = 20e-6,
) -> dict[str, Any]:
    """Writes the lens in each format, and plate.json; returns the content of plate.json.

    Args:
        camera: its lens is exported; the sensor does not matter.
        folder: made if absent; files of the same name are replaced, each one whole.
        formats: out of FORMATS; None = all that the surface has.
        diameter_m: outer diameter of the plate [m]; give this or rim_m.
        thickness_m: from the flat back to the height h = 0 [m].
        rim_m: width of the flat ring around the structured disc [m]; 1 mm if neither is given.
        step_m: pitch of the samples and of the rings of facets [m].

    Raises:
        InputError: unknown format, impossible plate, folder that cannot be written.
    """
    possible = _formats_of(camera)
    chosen = possible if formats is None else formats
    unknown = sorted(set(chosen) - set(possible))
    if unknown or not chosen:
        raise InputError(
            f"Expected formats of this surface ({', '.join(possible)}), found "
            f"'{', '.join(unknown)}'; choose out of these."
        )
    identity = describe_camera(camera)["sha256"]
    plate = design_plate(
        camera, diameter_m=diameter_m, thickness_m=thickness_m, rim_m=rim_m, step_m=step_m
    )
    files = []
    for name, content in _contents(camera, plate, chosen).items():
        data = content()
        with written_whole(folder / name) as partial:
            partial.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        files.append({"name": name, "bytes": len(data), "sha256": digest})
    described = describe_plate(camera, plate, identity) | {"files": files}
    validate(described, "plate")
    with written_whole(folder / "plate.json") as partial:
        write_json(partial, described)
    return described


def design_plate(
    camera: Camera,
    *,
    diameter_m: float | None,
    thickness_m: float,
    rim_m: float | None,
    step_m: float,
) -> Plate:
    """The plate around a lens: its structured disc is the disc on which the surface is defined."""
    system = camera.lens.system
    radius = system.normalisation_radius_m
    if diameter_m is not None and rim_m is not None:
        raise InputError("Expected a diameter or a rim, found both; give one of the two.")
    if diameter_m is not None:
        rim_m = diameter_m / 2 - radius
        rim_m = 0.0 if abs(rim_m) < 1e-9 else rim_m  # the disc itself, whatever its last digit
    elif rim_m is None:
        rim_m = 1e-3
    if not 0 <= rim_m < 1:
        raise InputError(
            f"Expected a plate of at least {2 * MM * radius:.3f} mm, the structured disc, found "
            f"{2 * MM * (radius + rim_m):.3f} mm; give a larger diameter or rim."
        )
    return Plate(
        height=fabrication.height_of(camera.lens.coefficients, system),
        radius_m=radius,
        clear_radius_m=system.aperture_radius_m,
        rim_m=rim_m,
        thickness_m=thickness_m,
        step_m=step_m,
    )


def describe_plate(camera: Camera, plate: Plate, lens_sha256: str) -> dict[str, Any]:
    """plate.json without the list of files: what a workshop asks for, in mm, um and degrees."""
    system, found = camera.lens.system, fabrication.figures(plate)
    front = MM * plate.mesh.vertices[: plate.mesh.top, 2]
    sphere = found.sphere_radius_m
    return {
        "schema_version": SCHEMA_VERSION,
        "version": __version__,
        "lens": {"sha256": lens_sha256},
        "frame": plate_formats.FRAME,
        "diameter_mm": 2 * MM * (plate.radius_m + plate.rim_m),
        "structured_diameter_mm": 2 * MM * plate.radius_m,
        "clear_aperture_mm": 2 * MM * plate.clear_radius_m,
        "obstruction_mm": MM * system.obstruction_diameter_m,
        "thickness_mm": {
            "at_zero_sag": MM * plate.thickness_m,
            "centre": float(front[0]),
            "rim": float(front[-1]),
            "smallest": float(front.min()),
            "largest": float(front.max()),
        },
        "sag_peak_to_valley_um": UM * (found.highest_m - found.lowest_m),
        "largest_slope_deg": float(np.degrees(found.slope_rad)),
        "best_fit_sphere": {
            "radius_mm": None if sphere is None else MM * sphere,
            "shape": "plane" if sphere is None else "convex" if sphere > 0 else "concave",
            "departure_um": UM * found.sphere_departure_m,
        },
        "departure_from_turned_surface_um": UM * found.turned_departure_m,
        "material": _material(system),
        "mounting": {
            "structured_side_faces": "scene",
            # the flat back moves the image by t - t / n; a thin lens has no such shift
            "back_to_sensor_mm": MM * system.sensor_distance_m
            - float(front[0]) / system.indices[1],
        },
        "sampling": {
            "step_um": UM * plate.step_m,
            "stl_facets": len(plate.mesh.triangles),
            "stl_facet_error_nm": 1e9 * fabrication.facet_error_m(plate),
        },
    }


def _formats_of(camera: Camera) -> tuple[str, ...]:
    """FORMATS, without those that list Zernike terms if the surface has none."""
    lens = camera.lens
    if fabrication.rms_coefficients_um(lens.coefficients, lens.system) is None:
        return tuple(name for name in FORMATS if name not in ("zernike", "prescription"))
    return FORMATS


def _contents(
    camera: Camera, plate: Plate, formats: tuple[str, ...]
) -> dict[str, Callable[[], bytes]]:
    """File name -> how to make its bytes, in the order of FORMATS."""
    grid: SagGrid = fabrication.sample(plate)
    terms = fabrication.rms_coefficients_um(camera.lens.coefficients, camera.lens.system)
    makers = {
        "csv": ("sag.csv", lambda: plate_formats.sag_csv(grid)),
        "npy": ("sag.npy", lambda: plate_formats.sag_npy(grid)),
        "zernike": ("zernike.csv", lambda: plate_formats.zernike_csv(terms, plate.radius_m)),
        "grid-sag": ("grid_sag.DAT", lambda: plate_formats.zemax_grid(grid)),
        "prescription": (
            "zernike_standard_sag.txt",
            lambda: plate_formats.zemax_zernike(terms, plate.radius_m, plate.thickness_m),
        ),
        "stl": ("plate.stl", lambda: plate_formats.stl(plate.mesh)),
    }
    return dict(makers[name] for name in FORMATS if name in formats)


def _material(system: OpticalSystem) -> dict[str, Any]:
    """The indices that the lens was computed with, and the plastic that comes nearest to them."""
    nearest, difference = None, None
    for name in SELLMEIER:
        try:
            known = [refractive_index(name, wavelength) for wavelength in system.wavelengths_m]
        except InputError:  # a wavelength at which no plastic was measured
            break
        off = max(abs(a - b) for a, b in zip(known, system.indices, strict=True))
        if difference is None or off < difference:
            nearest, difference = name, off
    return {
        "wavelengths_nm": [1e9 * wavelength for wavelength in system.wavelengths_m],
        "indices": list(system.indices),
        "nearest": nearest,
        "largest_difference": difference,
        "source": "indices: lens.json; nearest: Sultanova et al. 2009 (refractiveindex.info, CC0)",
    }
