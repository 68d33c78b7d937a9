"""A plate as the bytes of files: tables, Zemax text, STL. The same plate gives the same bytes.

Frame and sign of every file: fabrication.py. Lengths in millimetres unless a header says otherwise.
"""

from __future__ import annotations

import io

import numpy as np
from numpy import ndarray

from opticaldr.optics.fabrication import Mesh, SagGrid
from opticaldr.optics.zernike import noll_index

FRAME = (
    "structured side seen from the scene: x right, y up, z out of the plate; "
    "positive sag = thicker plate"
)
NAMES = {
    **{1: "piston", 2: "tilt x", 3: "tilt y", 4: "defocus", 5: "astigmatism 45", 6: "astigmatism"},
    **{7: "coma y", 8: "coma x", 9: "trefoil y", 10: "trefoil x", 11: "spherical"},
    **{12: "secondary astigmatism", 13: "secondary astigmatism 45"},
    **{14: "tetrafoil", 15: "tetrafoil 22.5"},
}
MILLIMETRES = 1e3
MICROMETRES = 1e6


def sag_csv(grid: SagGrid) -> bytes:
    """x, y and sag [mm] of the samples inside, row by row from -y to +y."""
    y, x = np.meshgrid(grid.axis, grid.axis, indexing="ij")
    table = MILLIMETRES * np.stack([a[grid.inside] for a in (x, y, grid.sag)], axis=1)
    header = f"# sag of the structured side, mm\n# {FRAME}\nx_mm,y_mm,sag_mm"
    return _table(table, header, ["%.6f", "%.6f", "%.9f"], ",")


def sag_npy(grid: SagGrid) -> bytes:
    """Sag [m] as (n, n) float64: rows = y ascending, columns = x ascending, NaN outside."""
    buffer = io.BytesIO()
    np.save(buffer, np.where(grid.inside, grid.sag, np.nan), allow_pickle=False)
    return buffer.getvalue()


def zernike_csv(coefficients_um: ndarray, radius_m: float) -> bytes:
    """j, n, m, name and coefficient [um RMS] of every term."""
    lines = [
        f"# h = sum of a_j Z_j(x/R, y/R), R = {MILLIMETRES * radius_m:.9f} mm, a_j in micrometres",
        "# Noll 1976: even j cosine, odd j sine, angle from +x to +y; mean square of Z_j over the "
        "disc is 1",
        f"# {FRAME}",
        "j,n,m,name,a_um_rms",
    ]
    for j, value in enumerate(coefficients_um, start=1):
        n, m = noll_index(j)
        lines.append(f"{j},{n},{m},{NAMES.get(j, f'n={n} m={m}')},{value:.9f}")
    return _text(lines)


def zemax_zernike(coefficients_um: ndarray, radius_m: float, thickness_m: float) -> bytes:
    """Prescription of a Zernike Standard Sag surface: flat base, Noll terms, lengths in mm."""
    lines = [
        "! Zernike Standard Sag (SZERNSAG), lens units: millimetres",
        "! terms: Zernike Standard (Noll order, mean square 1 over the disc), coefficients in mm",
        f"! {FRAME}",
        "! light travels along -z here (scene to sensor); for light along +z use -x and -sag",
        "RADIUS INFINITY",
        "CONIC 0",
        f"THICKNESS_TO_FLAT_BACK {MILLIMETRES * thickness_m:.9f}",
        f"NUMBER_OF_TERMS {coefficients_um.size}",
        f"NORMALIZATION_RADIUS {MILLIMETRES * radius_m:.9f}",
    ]
    lines += [f"Z{j} {1e-3 * a:.15e}" for j, a in enumerate(coefficients_um, start=1)]
    return _text(lines)


def zemax_grid(grid: SagGrid) -> bytes:
    """Grid Sag .DAT (OpticStudio help, "Grid Sag"): first line is the corner (-x, +y), rows down.

    Samples outside are zero with nodata = 1.
    """
    step, size = MILLIMETRES * (grid.axis[1] - grid.axis[0]), grid.axis.size
    layers = (
        MILLIMETRES * grid.sag,
        grid.slope_x,
        grid.slope_y,
        grid.twist / MILLIMETRES,
        1 - grid.inside,
    )
    table = np.stack([layer[::-1].ravel() for layer in layers], axis=1)
    header = f"{size} {size} {step:.12g} {step:.12g} 0 0 0"
    return _table(table, header, ["%.12e"] * 4 + ["%d"], " ")


def stl(mesh: Mesh) -> bytes:
    """Binary STL in millimetres, float32, normals outwards."""
    corners = (MILLIMETRES * mesh.vertices[mesh.triangles]).astype("<f4")
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    facets = np.zeros(len(corners), record)
    facets["normal"], facets["corners"] = normals, corners
    header = f"opticaldr plate, mm, {len(corners)} facets".encode().ljust(80)
    return header + np.uint32(len(corners)).tobytes() + facets.tobytes()


def _table(table: ndarray, header: str, formats: list[str], delimiter: str) -> bytes:
    buffer = io.StringIO()
    np.savetxt(buffer, table, formats, delimiter, header=header, comments="")
    return buffer.getvalue().encode()


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
