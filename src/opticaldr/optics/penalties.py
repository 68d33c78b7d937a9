"""What a workshop cannot cut, as differentiable penalties: each is 0 where its limit is kept."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from opticaldr.optics.surfaces import Prepared, cast
from opticaldr.optics.system import OpticalSystem

SAMPLES = (128, 512)
"""Fewest and most samples across the plate; finer detail than the plate's spacing is not seen."""


@lru_cache(maxsize=4)
def _plate(
    system: OpticalSystem, count: int, device: torch.device, dtype: torch.dtype
) -> tuple[Prepared, Tensor, float]:
    """Surface prepared on a square grid one sample wider than the clear aperture, (n + 2, n + 2);
    which of its inner n x n samples lie in the aperture; spacing [m].
    """
    surface, radius = system.shape(count), system.aperture_radius_m
    wanted = math.ceil(8 * radius / surface.feature_m)  # four samples per feature
    n = min(max(wanted, SAMPLES[0]), SAMPLES[1])
    spacing = 2 * radius / n
    axis = (torch.arange(n + 2, dtype=torch.float64) - 0.5) * spacing - radius
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = (x**2 + y**2 < radius**2)[1:-1, 1:-1]
    return cast(surface.prepare(x, y), device, dtype), inside.to(device), spacing


def manufacturing_penalties(
    parameters: Tensor,
    system: OpticalSystem,
    *,
    sag_limit_m: float,
    slope_limit: float,
    curvature_limit_per_m: float,
) -> dict[str, Tensor]:
    """How far a surface is past each limit, over the clear aperture [1].

    sag_range: highest minus lowest point, (range / limit - 1)^2.
    slope: |grad h|, mean of (slope / limit - 1)^2 where it is steeper.
    feature: the larger principal curvature k, mean of (|k| / limit - 1)^2 where it bends more;
        a tool of nose radius t cuts no hollow with k > 1 / t.
    smoothness: variance of the mean curvature / limit^2: 0 for a parabola, small for a smooth
        surface; it is a price on roughness and has no limit.

    Args:
        parameters: of the surface, (count,).
        system: geometry and surface.
        sag_limit_m: [m]. slope_limit: [1]. curvature_limit_per_m: [1/m].
    """
    prepared, inside, spacing = _plate(
        system, parameters.numel(), parameters.device, parameters.dtype
    )
    height = system.shape(parameters.numel()).evaluate(parameters, prepared)
    centre = height[1:-1, 1:-1]
    lit = centre[inside]
    past = ((lit.max() - lit.min()) / sag_limit_m - 1).relu()
    left, right, up, down = height[1:-1, :-2], height[1:-1, 2:], height[:-2, 1:-1], height[2:, 1:-1]
    gx, gy = (right - left) / (2 * spacing), (down - up) / (2 * spacing)
    hxx, hyy = (right - 2 * centre + left) / spacing**2, (down - 2 * centre + up) / spacing**2
    hxy = (height[2:, 2:] - height[2:, :-2] - height[:-2, 2:] + height[:-2, :-2]) / (4 * spacing**2)
    mean = (hxx + hyy)[inside] / 2
    # the tiny term keeps the root's gradient finite where a sphere makes it zero
    tiny = (1e-6 * curvature_limit_per_m) ** 2
    bend = mean.abs() + (((hxx - hyy) / 2).square() + hxy.square() + tiny)[inside].sqrt()
    steep = (gx.square() + gy.square())[inside].clamp_min(1e-20).sqrt()
    return {
        "sag_range": past.square(),
        "slope": (steep / slope_limit - 1).relu().square().mean(),
        "feature": (bend / curvature_limit_per_m - 1).relu().square().mean(),
        "smoothness": mean.var() / curvature_limit_per_m**2,
    }
