"""Image formation: convolution of a scene with the point spread function, and its adjoint."""

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
    full = scene.shape[-1] + extent - 1
    length = next_fast_len(full, real=True)
    transfer = torch.fft.rfft2(psf, s=(length, length))[which]  # one transform per distinct PSF
    spectrum = torch.fft.rfft2(scene, s=(length, length)) * transfer
    start = axis if border == "zero" else 2 * axis
    return torch.fft.irfft2(spectrum, s=(length, length))[
        ..., start : start + size, start : start + size
    ]


def correlate(image: Irradiance, psf: Psf, which: Int[Tensor, "b"]) -> Scene:
    """Adjoint of convolve with border "zero": x(p) = sum_m psf(m) y(p + m - m_axis)."""
    size, extent = image.shape[-1], psf.shape[-1]
    length = next_fast_len(size + extent - 1, real=True)
    transfer = torch.fft.rfft2(psf, s=(length, length))[which]
    spectrum = torch.fft.rfft2(image, s=(length, length)) * transfer.conj()
    axis = extent // 2
    full = torch.fft.irfft2(spectrum, s=(length, length))
    return torch.roll(full, (axis, axis), dims=(-2, -1))[..., :size, :size]
