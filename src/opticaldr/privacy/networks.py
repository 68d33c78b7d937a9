"""The attackers' own small networks; nothing here comes from the defender's networks."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opticaldr.types import Photo


def _unit(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.PReLU(outputs)]


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_unit(channels, channels), *_unit(channels, channels)[:2])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ResidualNet(nn.Module):
    """(b, c, 64, 64) in [0, 1] to (b, outputs): a small residual network, blind at first to position."""

    def __init__(self, outputs: int, *, width: int = 16, channels: int = 3, side: int = 64) -> None:
        super().__init__()
        w = width
        self.layers = nn.Sequential(
            *_unit(channels, w, 2),
            *_unit(w, 2 * w, 2),
            _Residual(2 * w),
            *_unit(2 * w, 4 * w, 2),
            _Residual(4 * w),
            *_unit(4 * w, 8 * w, 2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(8 * w * (side // 16) ** 2, outputs),
        )

    def forward(self, photos: Photo) -> Tensor:
        return self.layers((photos - 0.5) / 0.25)


class _Mixing(nn.Module):
    """Mixes first between patches, then between the channels of each patch."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.mixers = nn.ModuleList(
            nn.Sequential(nn.Linear(n, 2 * n), nn.GELU(), nn.Linear(2 * n, n))
            for n in (patches, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixers[0](self.norms[0](x).mT).mT
        return x + self.mixers[1](self.norms[1](x))


class PatchMixer(nn.Module):
    """(b, c, 64, 64) in [0, 1] to (b, outputs): every patch meets every other at once.

    After MLP-Mixer (Tolstikhin et al. 2021): a blur mixes the whole face, and so does this network.
    """

    def __init__(
        self, outputs: int, *, width: int = 64, channels: int = 3, side: int = 64, patch: int = 8
    ) -> None:
        super().__init__()
        patches = (side // patch) ** 2
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.mixing = nn.Sequential(*(_Mixing(patches, width) for _ in range(2)))
        self.head = nn.Sequential(
            nn.LayerNorm(width), nn.Flatten(), nn.Dropout(0.2), nn.Linear(patches * width, outputs)
        )

    def forward(self, photos: Photo) -> Tensor:
        x = self.embed((photos - 0.5) / 0.25).flatten(2).mT
        return self.head(self.mixing(x))


class UNet(nn.Module):
    """(b, c, s, s) sRGB clues to the (b, 3, s, s) picture: a correction of the last clue.

    It works on blocks of 2 x 2 pixels, which costs a quarter and suits pictures without detail.

    Args:
        channels: three for each clue (the capture, its restoration). s: a multiple of 8.
    """

    def __init__(self, channels: int, *, width: int = 24) -> None:
        super().__init__()
        w = [width, 2 * width, 4 * width]
        self.enter = nn.Sequential(*_unit(4 * channels, w[0]))
        self.down = nn.ModuleList(
            nn.Sequential(*_unit(a, b, 2), *_unit(b, b)) for a, b in pairwise(w)
        )
        self.up = nn.ModuleList(
            nn.Sequential(*_unit(a + b, a)) for a, b in reversed(list(pairwise(w)))
        )
        self.leave = nn.Conv2d(w[0], 12, 3, 1, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, clues: Tensor) -> Photo:
        x = self.enter(F.pixel_unshuffle((clues - 0.5) / 0.25, 2))
        levels = []
        for down in self.down:
            levels.append(x)
            x = down(x)
        for up in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = up(torch.cat([x, levels.pop()], dim=1))
        return clues[:, -3:] + F.pixel_shuffle(self.leave(x), 2)
