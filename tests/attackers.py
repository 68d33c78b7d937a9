"""Stand-ins for tests of the rungs: a recogniser without weights, and optics without light."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F


class Correlation:
    """A recogniser whose embedding is the picture's fine detail."""

    name = "correlation"
    differentiable = False

    def __call__(self, photos: torch.Tensor) -> torch.Tensor:
        detail = photos - F.avg_pool2d(photos, 9, 1, 4, count_include_pad=False)
        return F.normalize(detail.flatten(1) + 1e-9, dim=1)


@dataclass(frozen=True)
class Darkness:
    """Optics that let no light through."""

    label: str = "darkness"
    border: str = "reflect"
    psf: None = None

    def __call__(self, scene: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(scene)
