"""Image formation: convolution with the point spread function, its adjoint, and pixel sums."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Int
from scipy.fft import next_fast_len
from torch import Tensor

from opticaldr.types import InputError, Irradiance, Psf, Scene

Border = Literal["zero", "reflect"]


def convolve(
    scene: Scene, psf: Psf, which: Int[Tensor, "b"], *, border: Border = "zero"
) -> Irradiance:
    """y(p) = sum_m psf(m) x(p - m + m_axis), the part of the blurred image on the sensor.

    scene: (b, 3, s, s) linear irradiance; psf: (k, 3, m, m), axis at (m/2, m/2); which: the PSF
    of each image. border: "zero" = darkness outside the frame; "reflect" = the frame is mirrored.
    """
    size, extent = scene.shape[-1], psf.shape[-1]
    axis = extent // 2
    if border == "reflect":
        if axis >= size:
            raise InputError(
                f"Expected a blur of less than {size} px for border 'reflect', found {axis} px "
                "on one side; use border 'zero'."
            )
        scene = torch.nn.functional.pad(scene, (axis,) * 4, mode="reflect")
    start = axis if border == "zero" else 2 * axis
    return _Convolution.apply(scene, psf, which, start, size)


class _Convolution(torch.autograd.Function):
    """irfft(rfft(scene) rfft(psf)), cut to the sensor, with both adjoints written out.

    A few images at a time: their spectra stay in the processor's cache, and memory does not grow
    with the batch; transforming the scene once more on the way back costs less than keeping it.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        scene: Tensor,
        psf: Tensor,
        which: Tensor,
        start: int,
        size: int,
    ) -> Tensor:
        length = (next_fast_len(scene.shape[-1] + psf.shape[-1] - 1, real=True),) * 2
        transfer = torch.fft.rfft2(psf, s=length)
        image = scene.new_empty(*scene.shape[:-2], size, size)
        for few in _few(scene):
            spectrum = torch.fft.rfft2(scene[few], s=length).mul_(transfer[which[few]])
            full = torch.fft.irfft2(spectrum, s=length)
            image[few] = full[..., start : start + size, start : start + size]
        ctx.save_for_backward(scene, transfer, which)
        ctx.start, ctx.length, ctx.extent = start, length, psf.shape[-1]
        return image

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        scene, transfer, which = ctx.saved_tensors
        wants_scene, wants_psf = ctx.needs_input_grad[:2]
        to_scene = torch.empty_like(scene) if wants_scene else None
        summed = torch.zeros_like(transfer) if wants_psf else None
        for few in _few(scene):
            back = torch.fft.rfft2(gradient[few], s=ctx.length)
            if to_scene is not None:
                full = torch.fft.irfft2(back * transfer[which[few]].conj(), s=ctx.length)
                to_scene[few] = _from(full, ctx.start, scene.shape[-1])
            if summed is not None:
                spectrum = torch.fft.rfft2(scene[few], s=ctx.length)
                summed.index_add_(0, which[few], back.mul_(spectrum.conj()))
        to_psf = None
        if summed is not None:
            to_psf = _from(torch.fft.irfft2(summed, s=ctx.length), ctx.start, ctx.extent)
        return to_scene, to_psf, None, None, None


def _few(scene: Tensor) -> list[slice]:
    """Slices of the batch: two images fill the cache of a processor, a GPU wants more at once."""
    step = 2 if scene.device.type == "cpu" else 32
    return [slice(first, first + step) for first in range(0, len(scene), step)]


def _from(full: Tensor, start: int, size: int) -> Tensor:
    """The size x size part of a circular correlation whose image began at `start`."""
    return torch.roll(full, (start, start), dims=(-2, -1))[..., :size, :size]


def correlate(image: Irradiance, psf: Psf, which: Int[Tensor, "b"]) -> Scene:
    """Adjoint of convolve with border "zero": x(p) = sum_m psf(m) y(p + m - m_axis)."""
    size, extent = image.shape[-1], psf.shape[-1]
    length = next_fast_len(size + extent - 1, real=True)
    transfer = torch.fft.rfft2(psf, s=(length, length))[which]
    spectrum = torch.fft.rfft2(image, s=(length, length)) * transfer.conj()
    axis = extent // 2
    full = torch.fft.irfft2(spectrum, s=(length, length))
    return torch.roll(full, (axis, axis), dims=(-2, -1))[..., :size, :size]


def box_sum(values: Tensor, q: int) -> Tensor:
    """Sums q x q samples to one pixel (pixel-area integration): (..., m q, m q) -> (..., m, m)."""
    planes = values.reshape(1, -1, *values.shape[-2:])
    pooled = torch.nn.functional.avg_pool2d(planes, q, divisor_override=1)
    return pooled.view(*values.shape[:-2], *pooled.shape[-2:])
