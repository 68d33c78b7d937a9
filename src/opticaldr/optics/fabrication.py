"""From a surface to a plate: samples, figures and triangles that a workshop works from. No files.

The plate's frame, once for every file: look at the structured side from the scene, x to the right,
y up, z out of the plate towards the viewer. The flat back is z = 0 and faces the sensor; the
structured side is z = thickness + h(x, y), so positive height is a thicker plate. x and y are the
x and +y of the wave model (columns and rows of the picture): a plate that is thicker towards +y
moves the picture towards its bottom row. The frame is right-handed because "right" and "down" in
a picture span the direction towards the scene.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from opticaldr.optics.off_axis import Sag
from opticaldr.optics.surfaces import ZernikeSurface
from opticaldr.optics.system import OpticalSystem
from opticaldr.optics.zernike import noll_index
from opticaldr.types import InputError

Height = Callable[[Tensor, Tensor], Tensor]
"""Height h [m] at positions x, y [m], pointwise, float64, of any shape."""

MAX_RINGS = 1000
"""Most steps from the axis to the edge: 3 million facets, 150 MB of STL."""
STENCIL_M = 1e-6
"""Half width of the central differences [m]: slopes right to 1e-9 where h bends over 0.1 mm."""


def height_of(parameters: Tensor, system: OpticalSystem) -> Height:
    """The height of a plate [m] as a function of position, in float64; InputError if it is none."""
    return Sag.of(parameters, system).height


def rms_coefficients_um(
    parameters: Tensor, system: OpticalSystem
) -> Float[ndarray, "terms"] | None:
    """Coefficients [um RMS] of the Noll-normalised terms; None for a surface of another kind."""
    values = parameters.detach().cpu().double().numpy()
    shape = system.shape(values.size)
    if not isinstance(shape, ZernikeSurface):
        return None
    if shape.normalisation == "noll":
        return values
    orders = [noll_index(j) for j in range(1, values.size + 1)]
    return values / np.sqrt([(n + 1) * (1 if m == 0 else 2) for n, m in orders])


@dataclass(frozen=True)
class Plate:
    """A round plate with one structured side. Lengths in metres.

    radius_m: edge of the structured disc. clear_radius_m: edge of the light that is used.
    rim_m: width of the flat ring around the disc, at the mean height of the disc's edge.
    thickness_m: from the flat back to the height h = 0. step_m: pitch of samples and of rings.
    """

    height: Height
    radius_m: float
    clear_radius_m: float
    rim_m: float
    thickness_m: float
    step_m: float

    def __post_init__(self) -> None:
        finest, coarsest = self.radius_m / MAX_RINGS, self.radius_m / 4
        if not finest <= self.step_m <= coarsest:
            raise InputError(
                f"Expected a step of {1e6 * finest:.2f} to {1e6 * coarsest:.0f} um, found "
                f"{1e6 * self.step_m:g} um; choose one in that range, such as 20."
            )
        lowest = float(self.mesh.vertices[: self.mesh.top, 2].min())
        if not (math.isfinite(lowest) and lowest > 0):
            raise InputError(
                f"Expected a thickness that leaves material everywhere, found {1e3 * lowest:.3f} "
                f"mm at the lowest point; add at least {1e3 * abs(lowest):.3f} mm."
            )

    @property
    def rings(self) -> int:
        """Rings of facets from the axis to the edge of the structured disc."""
        return math.ceil(self.radius_m / self.step_m - 1e-9)

    @cached_property
    def mesh(self) -> Mesh:
        """Closed triangle mesh of the plate."""
        return plate_mesh(self)


@dataclass(frozen=True)
class SagGrid:
    """Samples on a square grid. axis: (n,) x and y [m], ascending. Others (n, n), rows = y.

    sag: h [m]. slope_x, slope_y: dh/dx, dh/dy [1]. twist: d2h/dxdy [1/m].
    inside: True in the structured disc and two samples beyond (the surface continued).
    """

    axis: Float[ndarray, "n"]
    sag: Float[ndarray, "n n"]
    slope_x: Float[ndarray, "n n"]
    slope_y: Float[ndarray, "n n"]
    twist: Float[ndarray, "n n"]
    inside: ndarray


def with_derivatives(height: Height, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """h, dh/dx, dh/dy, d2h/dxdy at (x, y), by central differences."""
    step = STENCIL_M
    slope_x = (height(x + step, y) - height(x - step, y)) / (2 * step)
    slope_y = (height(x, y + step) - height(x, y - step)) / (2 * step)
    up = height(x + step, y + step) - height(x - step, y + step)
    down = height(x + step, y - step) - height(x - step, y - step)
    return height(x, y), slope_x, slope_y, (up - down) / (4 * step**2)


def sample(plate: Plate) -> SagGrid:
    """Sag and derivatives on a square grid of pitch step_m, the axis on the middle sample."""
    half = plate.rings + 2
    axis = torch.arange(-half, half + 1, dtype=torch.float64) * plate.step_m
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = torch.hypot(x, y) <= plate.radius_m + 2 * plate.step_m
    layers = with_derivatives(plate.height, x[inside], y[inside])
    full = [torch.zeros_like(x).masked_scatter(inside, layer).numpy() for layer in layers]
    return SagGrid(axis.numpy(), *full, inside.numpy())


# --- triangles -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mesh:
    """vertices: (v, 3) [m]. triangles: (t, 3), counter-clockwise from outside.

    structured: triangles of the structured disc come first. top: vertices of the front come first.
    """

    vertices: Float[ndarray, "v 3"]
    triangles: Int[ndarray, "t 3"]
    structured: int
    top: int


def plate_mesh(plate: Plate) -> Mesh:
    """Front of concentric rings (6 k vertices in ring k: near-equilateral facets), wall, back."""
    count = plate.rings
    radii = [plate.radius_m * k / count for k in range(1, count + 1)]
    if plate.rim_m > 0:  # one narrow ring leads from the disc to the level of the rim
        radii += [plate.radius_m + min(plate.step_m, plate.rim_m / 2), plate.radius_m + plate.rim_m]
    angles = [2 * math.pi * np.arange(6 * k) / (6 * k) for k in range(1, len(radii) + 1)]
    rho = np.concatenate([[0.0], np.repeat(radii, [a.size for a in angles])])
    angle = np.concatenate([[0.0], *angles])
    x, y = rho * np.cos(angle), rho * np.sin(angle)
    disc = _first_of_ring(count + 1)
    height = np.empty_like(x)
    height[:disc] = plate.height(torch.from_numpy(x[:disc]), torch.from_numpy(y[:disc])).numpy()
    height[disc:] = height[_first_of_ring(count) : disc].mean()
    front = np.stack([x, y, plate.thickness_m + height], axis=1)
    layers = [_ring_triangles(k) for k in range(1, len(radii) + 1)]
    edge = np.arange(_first_of_ring(len(radii)), x.size)
    back = np.vstack([[[0.0, 0.0, 0.0]], front[edge] * [1.0, 1.0, 0.0]])
    below = x.size + 1 + np.arange(edge.size)
    after, below_after = np.roll(edge, -1), np.roll(below, -1)
    wall = [np.stack([edge, below, below_after], 1), np.stack([edge, below_after, after], 1)]
    bottom = np.stack([np.full(edge.size, x.size), below_after, below], 1)
    return Mesh(
        vertices=np.vstack([front, back]),
        triangles=np.concatenate([*layers, *wall, bottom]),
        structured=6 * count**2,
        top=x.size,
    )


def _first_of_ring(k: int) -> int:
    """Index of the first vertex of ring k >= 1; the axis is vertex 0."""
    return 1 + 3 * k * (k - 1)


def _ring_triangles(k: int) -> Int[ndarray, "t 3"]:
    """The 6 (2 k - 1) triangles between ring k - 1 and ring k, six equal sectors."""
    sector, i = np.meshgrid(np.arange(6), np.arange(k), indexing="ij")

    def outer(position: ndarray) -> ndarray:
        return _first_of_ring(k) + (sector * k + position) % (6 * k)

    def inner(position: ndarray) -> ndarray:
        if k == 1:
            return np.zeros_like(position)
        return _first_of_ring(k - 1) + (sector * (k - 1) + position) % (6 * (k - 1))

    outward = np.stack([outer(i), outer(i + 1), inner(i)], -1)
    inward = np.stack([inner(i), outer(i + 1), inner(i + 1)], -1)[:, : k - 1]
    return np.concatenate([outward.reshape(-1, 3), inward.reshape(-1, 3)])


def facet_error_m(plate: Plate) -> float:
    """Largest distance in z [m] between the facets, rounded to float32 mm, and the surface.

    Fifteen points a facet; a tenth is added for the points between them.
    """
    mesh = plate.mesh
    corners = mesh.vertices[mesh.triangles[: mesh.structured]]
    stored = 1e-3 * (1e3 * corners).astype(np.float32).astype(np.float64)
    worst = 0.0
    for a in range(5):
        for b in range(5 - a):
            share = np.array([a, b, 4 - a - b]) / 4
            x, y, z = np.einsum("c,tcd->dt", share, stored)
            height = plate.height(torch.from_numpy(x), torch.from_numpy(y)).numpy()
            worst = max(worst, float(np.abs(z - plate.thickness_m - height).max()))
    return 1.1 * worst


# --- figures ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """What a workshop asks first, over the clear aperture. Heights in metres, slope in radians.

    sphere_radius_m: best-fit sphere, positive if the plate bulges; None for a plane.
    sphere_departure_m: largest minus smallest distance in z from that sphere (or plane).
    turned_departure_m: largest minus smallest deviation from the mean of each ring; 0 for a
        surface that a plain lathe can turn.
    """

    lowest_m: float
    highest_m: float
    slope_rad: float
    sphere_radius_m: float | None
    sphere_departure_m: float
    turned_departure_m: float


def figures(plate: Plate) -> Figures:
    """Sag, slope and best-fit sphere on the rings of the mesh, scaled to the clear aperture."""
    disc = _first_of_ring(plate.rings + 1)
    shrink = plate.clear_radius_m / plate.radius_m
    x, y = (torch.from_numpy(c[:disc] * shrink) for c in plate.mesh.vertices.T[:2])
    height, slope_x, slope_y, _ = (t.numpy() for t in with_derivatives(plate.height, x, y))
    radius, fitted = _best_sphere(x.numpy(), y.numpy(), height)
    sizes = np.maximum(1, 6 * np.arange(plate.rings + 1))  # points of each ring, the axis first
    ring = np.repeat(np.arange(plate.rings + 1), sizes)
    mean = np.bincount(ring, height) / np.bincount(ring)
    return Figures(
        lowest_m=float(height.min()),
        highest_m=float(height.max()),
        slope_rad=float(np.arctan(np.hypot(slope_x, slope_y).max())),
        sphere_radius_m=radius,
        sphere_departure_m=float(np.ptp(height - fitted)),
        turned_departure_m=float(np.ptp(height - mean[ring])),
    )


def _best_sphere(x: ndarray, y: ndarray, z: ndarray) -> tuple[float | None, ndarray]:
    """Least-squares sphere through points (n,): signed radius [m] and its height at the points.

    Algebraic: |p|^2 = 2 c . p + b is linear in centre c and b = R^2 - |c|^2; positions are
    scaled to about 1. A sphere flatter than 1 m in a plate of millimetres counts as a plane.
    """
    scale = float(np.hypot(x, y).max())
    p = np.stack([x, y, z], 1) / scale
    plane = np.stack([p[:, 0], p[:, 1], np.ones(len(p))], 1)
    flat = plane @ np.linalg.lstsq(plane, p[:, 2], rcond=None)[0]
    if np.ptp(p[:, 2] - flat) < scale / 2:  # bend of a sphere of radius 1 m, in units of scale
        return None, flat * scale
    columns = np.stack([2 * p[:, 0], 2 * p[:, 1], 2 * p[:, 2], np.ones(len(p))], 1)
    cx, cy, cz, b = np.linalg.lstsq(columns, (p**2).sum(1), rcond=None)[0]
    radius = math.sqrt(b + cx**2 + cy**2 + cz**2)
    side = 1.0 if cz < p[:, 2].mean() else -1.0  # centre below the surface: it bulges
    depth2 = radius**2 - (p[:, 0] - cx) ** 2 - (p[:, 1] - cy) ** 2
    return side * radius * scale, (cz + side * np.sqrt(np.maximum(depth2, 0))) * scale
