"""Lens coefficients by name and the distance between two PSFs, for tests of the optics."""

from __future__ import annotations

import torch


def coefficients(dtype=torch.float32, **terms):
    """Fifteen coefficients [um]; z4=-30.5 sets Noll index 4."""
    values = torch.zeros(15, dtype=dtype)
    for name, value in terms.items():
        values[int(name[1:]) - 1] = value
    return values


def misplaced(a, b):
    """Share of light in the wrong place, largest over colours and depths."""
    return float((0.5 * (a - b).abs().sum((-2, -1))).max())
