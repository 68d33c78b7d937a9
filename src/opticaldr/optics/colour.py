"""sRGB transfer function (IEC 61966-2-1): the only place where encoded and linear light meet."""

from __future__ import annotations

import torch
from torch import Tensor


def srgb_to_linear(encoded: Tensor) -> Tensor:
    """Linear irradiance in [0, 1] of sRGB-encoded values in [0, 1], any shape.

    linear = v / 12.92 where v <= 0.04045, ((v + 0.055) / 1.055)^2.4 elsewhere.
    """
    high = ((encoded.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(encoded <= 0.04045, encoded / 12.92, high)


def linear_to_srgb(linear: Tensor) -> Tensor:
    """sRGB-encoded values in [0, 1] of linear irradiance, clipped to [0, 1], any shape.

    v = 12.92 linear where linear <= 0.0031308, 1.055 linear^(1/2.4) - 0.055 elsewhere.
    """
    linear = linear.clamp(0.0, 1.0)
    high = 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, high)
