"""The sensor: read noise, clipping, quantisation. What it returns is all that leaves the camera."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opticaldr.config import SensorConfig
from opticaldr.types import Capture, Irradiance


class _Round(torch.autograd.Function):
    """Rounds [0, 1] to levels; the gradient passes straight through."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: Tensor, levels: int) -> Tensor:
        return (values * levels).round_().div_(levels)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def quantise(values: Tensor, bits: int) -> Tensor:
    """Rounds [0, 1] to 2^bits levels; the gradient passes straight through."""
    return _Round.apply(values, 2**bits - 1)


class Sensor(nn.Module):
    """capture = Q(clip(irradiance + sigma n, 0, 1)), n ~ N(0, 1) per sample (paper.md 7.1, 6).

    Training draws sigma ~ U(read_noise_train) per image; evaluation uses read_noise_test.
    Both are shares of full scale [1]. Light is linear: no gamma is applied here.
    """

    def __init__(self, config: SensorConfig) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        irradiance: Irradiance,
        *,
        generator: torch.Generator,
        first: int = 0,
        total: int | None = None,
    ) -> Capture:
        """Capture in [0, 1]; the same generator state gives the same bits.

        first, total: the images are rows first, first + 1, ... of a batch of `total`; noise is drawn
        for all of it, so that a part sees what it would see in the whole. None = these images.
        """
        images, *shape = irradiance.shape
        rows = slice(first, first + images)
        total = images if total is None else total
        low, high = self.config.read_noise_train
        if not self.training:
            low = high = self.config.read_noise_test
        draw = {"generator": generator, "device": generator.device}
        sigma = low + (high - low) * torch.rand(total, 1, 1, 1, **draw)
        noise = torch.randn(total, *shape, **draw)[rows].mul_(sigma[rows])
        clipped = (irradiance + noise.to(irradiance)).clamp(0.0, 1.0)
        return quantise(clipped, self.config.bits)
